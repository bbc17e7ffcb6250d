// A whole MLP forward, and its whole backward, in one kernel each.
//
// It is C++ because Numba has no tensor cores, no bfloat16 arithmetic and no aligned dynamic shared
// memory of several types. Rows of the batch are independent, so a warp takes 16 of them through
// all layers: forward their activations never leave its registers, for the tensor cores' result
// has the layout of their next factor. Weights are rounded into shared memory, all of them once if
// there is room. The instructions are written out, since nvcuda::wmma hides that layout.
//
// Before this text comes what was chosen for a network (see fused_mlp.py): WIDTH, WARPS, BFLOAT16,
// KEEPS_INPUT, the bytes of SHARED memory of each kernel, and the functions of one float `value`
// and `slope`, written from the formulas. Products take 16-bit factors and are summed in float32,
// always. The order of every sum depends on the sizes alone: weight gradients are summed per block,
// then over the blocks in order.
//
// Parameters are one flat float32 array: for each layer its weights (in, out), then its bias.
// Weights are taken in chunks of WIDTH rows and columns, zero beyond what there is.

// y (n, outputs) from x (n, inputs). What backward needs goes to `kept`, unless it is null: by
// layers, 16 rows, 16 columns and lanes, zero beyond n.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    fused_mlp_forward(const float* x, const float* parameters, Factor* kept, float* y, Wide n,
                      int inputs, int outputs, int depth) {
    const int before = chunks(inputs), after = chunks(outputs);
    const Weights weights{memory(), (before + depth - 1 + after) * CHUNK * 2 <= SHARED_FORWARD};
    const Wide hidden = (Wide)WIDTH * WIDTH + WIDTH;
    const float* second = parameters + (Wide)inputs * WIDTH + WIDTH;
    const float* last = second + (depth - 1) * hidden;
    const float* bias = last + (Wide)WIDTH * outputs;
    if (weights.resident) {
        Half* to = weights.first;
        for (int k = 0; k < inputs; k += WIDTH, to += CHUNK)
            fetch(to, parameters + (Wide)k * WIDTH, inputs - k, WIDTH, WIDTH);
        for (int l = 1; l < depth; ++l, to += CHUNK)
            fetch(to, second + (l - 1) * hidden, WIDTH, WIDTH, WIDTH);
        for (int c = 0; c < outputs; c += WIDTH, to += CHUNK)
            fetch(to, last + c, WIDTH, outputs - c, outputs);
        __syncthreads();  // FETCHED
    }
    const int row = lane() / 4, column = lane() % 4 * 2;
    float sums[2 * TILES][4];
    Factor a[TILES];
    for (Wide start = (Wide)blockIdx.x * ROWS; start < n; start += (Wide)gridDim.x * ROWS) {
        const Wide mine = start + 16 * warp(), own = n - mine;
        const float* from = x + mine * inputs;
        clear(sums);
        for (int k = 0; k < inputs; k += WIDTH) {
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                float two[4][2];
#pragma unroll
                for (int i = 0; i < 8; ++i)
                    two[i / 2][i % 2] =
                        element(from, row + i / 2 % 2 * 8, own,
                                k + 16 * t + column + i / 4 * 8 + i % 2, inputs, inputs);
#pragma unroll
                for (int i = 0; i < 4; ++i) a[t].at[i] = packed(two[i][0], two[i][1]);
            }
            const Half* w = weights.chunk(k / WIDTH, parameters + (Wide)k * WIDTH, inputs - k,
                                          WIDTH, WIDTH);
            multiply(sums, a, w, tiles(inputs - k), TILES);
        }
        for (int l = 0; l < depth; ++l) {
            const float* layer = second + (l - 1) * hidden;
            if (l > 0) {
                const Half* w = weights.chunk(before + l - 1, layer, WIDTH, WIDTH, WIDTH);
                clear(sums);
                multiply(sums, a, w, TILES, TILES);
            }
            const float* added = layer + (Wide)WIDTH * WIDTH;  // also where l is 0
            Factor* keep = kept ? kept + (l * tiles_of(n) + mine / 16) * TILES * 32 + lane() : nullptr;
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                Factor held;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float* z = sums[2 * t + i / 2] + i % 2 * 2;
                    const float* b = added + 16 * t + i / 2 * 8 + column;
                    const bool there = row + i % 2 * 8 < own;
                    float z0 = z[0] + b[0], z1 = z[1] + b[1];
                    held.at[i] = packed(z0, z1);
                    if (KEEPS_INPUT) z0 = low(held.at[i]), z1 = high(held.at[i]);
                    a[t].at[i] = packed(value(z0), value(z1));
                    if (!KEEPS_INPUT) held.at[i] = a[t].at[i];
                    if (!there) held.at[i] = 0;
                }
                if (keep && own > 0) keep[32 * t] = held;
            }
        }
        for (int c = 0; c < outputs; c += WIDTH) {
            const Half* w = weights.chunk(before + depth - 1 + c / WIDTH, last + c, WIDTH,
                                          outputs - c, outputs);
            clear(sums);
            multiply(sums, a, w, TILES, tiles(outputs - c));
            float* to = y + mine * outputs;
            each(sums, [=](int r, int j, const float* z) {
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    if (r < own && c + j + i < outputs)
                        to[(Wide)r * outputs + c + j + i] = z[i] + bias[c + j + i];
            });
        }
    }
}

// From g (n, outputs): dx (n, inputs), or null, and each block's part of the parameters' gradient.
// A part has the sums of each chunk of the weights, the first layer's first, lane by lane; then the
// biases' (see fused_mlp_reduce). Every block must have rows: the grid is at most ceil(n / ROWS)
// blocks.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    fused_mlp_backward(const float* x, const float* parameters, const Factor* kept, const float* dy,
                       float* dx, float* parts, Wide n, int inputs, int outputs, int depth) {
    constexpr int G = ROWS * LD;
    const int before = chunks(inputs), after = chunks(outputs), all = before + depth - 1 + after;
    const int used = depth - 1 + after + (dx ? before : 0);
    Half* const g = memory();
    Half* const mine = g + 16 * warp() * LD;
    const Weights weights{g + G, (G + used * CHUNK) * 2 <= SHARED_BACKWARD};
    // As many chunks' sums as there is room for stay in shared memory between rounds.
    const int begin = G + (weights.resident ? used : 1) * CHUNK;
    Quarter* const inside = (Quarter*)(g + begin);
    const int room = (SHARED_BACKWARD - 2 * begin) / (4 * SUMS);
    float* part = parts + blockIdx.x * ((Wide)all * SUMS + (depth + after) * WIDTH);
    float* biases = part + (Wide)all * SUMS;
    const Wide hidden = (Wide)WIDTH * WIDTH + WIDTH;
    const float* second = parameters + (Wide)inputs * WIDTH + WIDTH;
    const float* last = second + (depth - 1) * hidden;
    if (weights.resident) {
        Half* to = weights.first;
        for (int l = 1; l < depth; ++l, to += CHUNK)
            fetch(to, second + (l - 1) * hidden, WIDTH, WIDTH, WIDTH);
        for (int c = 0; c < outputs; c += WIDTH, to += CHUNK)
            fetch(to, last + c, WIDTH, outputs - c, outputs);
        for (int k = 0; dx && k < inputs; k += WIDTH, to += CHUNK)
            fetch(to, parameters + (Wide)k * WIDTH, inputs - k, WIDTH, WIDTH);
    }
    float sums[2 * TILES][4];
    bool adds = false;
    const Wide stride = (Wide)gridDim.x * ROWS;
    for (Wide start = (Wide)blockIdx.x * ROWS; start < n; start += stride, adds = true) {
        const Wide own = n - start - 16 * warp();
        const int deep = (int)((n - start < ROWS ? n - start : ROWS) + 15) / 16;
        const Round round{g, inside, (Quarter*)part, room, deep, adds, start + stride >= n};
        const Factor* tile = kept + start / 16 * TILES * 32 + lane();
        const Wide layer = tiles_of(n) * TILES * 32;
        const float* from = dy + (start + 16 * warp()) * outputs;
        for (int c = 0; c < outputs; c += WIDTH) {
            __syncthreads();  // what was in g is done with
            fetch_own(mine, from + c, own, outputs - c, outputs);
            __syncthreads();  // G
            round.outer(before + depth - 1 + c / WIDTH, biases + depth * WIDTH + c,
                        Kept{tile + (depth - 1) * layer, deep}, TILES, tiles(outputs - c));
        }
        clear(sums);
        for (int c = (after - 1) * WIDTH; c >= 0; c -= WIDTH) {
            if (c < (after - 1) * WIDTH) {
                __syncthreads();  // the others have read what they needed of these rows
                fetch_own(mine, from + c, own, outputs - c, outputs);
                __syncwarp();  // OWN
            }
            const Half* w = weights.chunk(depth - 1 + c / WIDTH, last + c, WIDTH, outputs - c,
                                          outputs);
            multiply_turned(sums, mine, w, tiles(outputs - c));
        }
        for (int l = depth - 1; l >= 0; --l) {
            const Factor* held = tile + l * layer + warp() * TILES * 32;
            __syncthreads();  // all of g is done with
            const int row = lane() / 4, column = lane() % 4 * 2;
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                const Factor q = own > 0 ? held[32 * t] : Factor{};
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float* da = sums[2 * t + i / 2] + i % 2 * 2;
                    const bool there = row + i % 2 * 8 < own;
                    *(unsigned*)(mine + (row + i % 2 * 8) * LD + 16 * t + i / 2 * 8 + column) =
                        there ? packed(da[0] * slope(low(q.at[i])), da[1] * slope(high(q.at[i])))
                              : 0;
                }
            }
            __syncthreads();  // G
            if (l == 0) break;
            round.outer(before + l - 1, biases + l * WIDTH, Kept{tile + (l - 1) * layer, deep},
                        TILES, TILES);
            const Half* w = weights.chunk(l - 1, second + (l - 1) * hidden, WIDTH, WIDTH, WIDTH);
            clear(sums);
            multiply_turned(sums, mine, w, TILES);
        }
        for (int k = 0; k < inputs; k += WIDTH) {
            const Inputs left{x + start * inputs + k, n - start, inputs - k, inputs};
            round.outer(k / WIDTH, k == 0 ? biases : nullptr, left, tiles(inputs - k), TILES);
            if (!dx) continue;
            const Half* w = weights.chunk(depth - 1 + after + k / WIDTH,
                                          parameters + (Wide)k * WIDTH, inputs - k, WIDTH, WIDTH);
            clear(sums);
            multiply_turned(sums, mine, w, TILES);
            float* to = dx + (start + 16 * warp()) * inputs;
            each(sums, [=](int r, int j, const float* da) {
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    if (r < own && k + j + i < inputs) to[(Wide)r * inputs + k + j + i] = da[i];
            });
        }
    }
}

// Which parameter the sum at a place of a part is of; -1 for none.
struct Layout {
    int inputs, outputs, depth, before;
    Wide weights, hidden, second, last;
    __device__ Layout(int inputs, int outputs, int depth)
        : inputs(inputs), outputs(outputs), depth(depth), before(chunks(inputs)),
          weights((Wide)(before + depth - 1 + chunks(outputs)) * SUMS),
          hidden((Wide)WIDTH * WIDTH + WIDTH), second((Wide)inputs * WIDTH + WIDTH),
          last(second + (depth - 1) * hidden) {}
    __device__ Wide size() const { return weights + (depth + chunks(outputs)) * WIDTH; }
    __device__ Wide of(Wide place) const {
        if (place >= weights) {
            const int b = (int)(place - weights), column = b - depth * WIDTH;
            if (column < 0) return second - WIDTH + b / WIDTH * hidden + b % WIDTH;
            return column < outputs ? last + (Wide)WIDTH * outputs + column : -1;
        }
        // The chunk, its tile of 16 rows and 8 columns, the lane, its number.
        const int chunk = (int)(place / SUMS), i = (int)(place % SUMS);
        const int tile = i / 128, at = i / 4 % 32, e = i % 4;
        const int row = tile / (2 * TILES) * 16 + at / 4 + e / 2 * 8;
        int column = tile % (2 * TILES) * 8 + at % 4 * 2 + e % 2;
        const int l = chunk - before, c = l - (depth - 1);
        if (l < 0) {
            const int k = chunk * WIDTH + row;
            return k < inputs ? (Wide)k * WIDTH + column : -1;
        }
        if (c < 0) return second + l * hidden + row * WIDTH + column;
        column += c * WIDTH;
        return column < outputs ? last + (Wide)row * outputs + column : -1;
    }
};

// The gradient of the flat parameters: the parts of all blocks. SLICES warps add up every so many
// parts each, four numbers a lane; then these are added in their order.
constexpr int SLICES = within(WARPS, 4);

extern "C" __global__ void __launch_bounds__(THREADS)
    fused_mlp_reduce(const float* parts, float* gradient, int blocks, int inputs, int outputs,
                     int depth) {
    const Layout layout(inputs, outputs, depth);
    const Wide total = layout.size() / 4;
    const int slice = warp() % SLICES, group = warp() / SLICES;
    constexpr int SPAN = THREADS / SLICES;  // so many quarters has a block at a time
    Quarter* const shared = (Quarter*)fused_mlp_memory;
    for (Wide start = (Wide)blockIdx.x * SPAN; start < total; start += (Wide)gridDim.x * SPAN) {
        const Wide i = start + 32 * group + lane();
        Wide to[4];
        bool wanted = false;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            to[e] = i < total ? layout.of(4 * i + e) : -1;
            wanted = wanted || to[e] >= 0;
        }
        Quarter sum{};
        if (wanted) {
            const Quarter* one = (const Quarter*)parts + i;
#pragma unroll 8
            for (int block = slice; block < blocks; block += SLICES) {
                const Quarter q = one[block * total];
#pragma unroll
                for (int e = 0; e < 4; ++e) sum.at[e] += q.at[e];
            }
        }
        __syncthreads();  // the previous sums have been read
        shared[threadIdx.x] = sum;
        __syncthreads();  // SLICED
        if (slice > 0) continue;
        for (int s = 1; s < SLICES; ++s) {
            const Quarter q = shared[threadIdx.x + 32 * s];
#pragma unroll
            for (int e = 0; e < 4; ++e) sum.at[e] += q.at[e];
        }
#pragma unroll
        for (int e = 0; e < 4; ++e)
            if (to[e] >= 0) gradient[to[e]] = sum.at[e];
    }
}
