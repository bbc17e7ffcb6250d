// Training steps of a whole network, several in one launch, by one cluster of blocks.
//
// It is C++ because Numba has no clusters. Weights, moments and activations stay in the shared
// memory of the cluster's blocks, from the first step to the last; only rows of x come from global
// memory, each number once a step. Block r owns columns [r * slice(n), ...) of each layer's inputs,
// for all rows of the batch, and those rows of its weights. So a layer's product is a sum over the
// blocks, of which each adds up the columns that it owns next; its weights' gradient needs nothing
// but the gradient of the layer's outputs, and is used where it is made.
//
// Before this text comes what was chosen for a network (see cluster_step.py): LAYERS, SIZES, BATCH,
// CLUSTER, THREADS, STATES, SCALARS, OFFSETS, KEEPS_INPUT, and functions written from formulas:
// `value`, `slope` of one float, and `updated` of an optimizer. All is float32, and the order of
// every sum depends on the sizes alone.
#include <cooperative_groups.h>

namespace groups = cooperative_groups;
using Wide = long long;

static __device__ constexpr int slice(int n) { return (n + CLUSTER - 1) / CLUSTER; }
static __device__ constexpr int larger(int a, int b) { return a > b ? a : b; }
// A row's length that has the rows of a column in all banks.
static __device__ constexpr int odd(int n) { return n | 1; }

// What a block has in shared memory, in floats from its start.
struct Places {
    int weights[LAYERS], bias[LAYERS], inputs[LAYERS], outputs[LAYERS], sums[2], rows, losses, end;
};
constexpr int SHARE = slice(BATCH);  // rows of the batch whose loss is a block's own
static __device__ constexpr bool last(int l) { return l == LAYERS - 1; }
// How many biases of a layer a block holds: those of the last layer are in every block.
static __device__ constexpr int biases(int l) {
    return last(l) ? SIZES[l + 1] : slice(SIZES[l + 1]);
}
static __device__ constexpr int weights(int l) { return slice(SIZES[l]) * odd(SIZES[l + 1]); }

static __device__ constexpr Places placed() {
    Places at{};
    int end = 0;
    for (int l = 0; l < LAYERS; ++l) {
        at.weights[l] = end;
        end += (1 + STATES) * weights(l);
        at.bias[l] = end;
        end += (1 + STATES) * biases(l);
        at.inputs[l] = end;
        end += BATCH * slice(SIZES[l]);
        at.outputs[l] = end;  // what the slope is of; then the gradient of the layer's product
        if (!last(l)) end += BATCH * slice(SIZES[l + 1]);
    }
    for (int parity = 0; parity < 2; ++parity) {
        at.sums[parity] = end;  // a block's part of a product; then a gradient of all columns
        int most = 0;
        for (int l = parity; l < LAYERS; l += 2) most = larger(most, SIZES[l + 1]);
        end += BATCH * most;
    }
    at.rows = end;
    end += SHARE * SIZES[LAYERS];
    at.losses = end;
    at.end = end + SHARE + 1;
    return at;
}
static __device__ constexpr Places AT = placed();
static_assert(4 * AT.end == SHARED_BYTES, "the host asks for as much memory as there is use for");

extern __shared__ __align__(128) unsigned char cluster_step_memory[];

static __device__ float* memory(int place) { return (float*)cluster_step_memory + place; }
static __device__ int least(int a, int b) { return a < b ? a : b; }
// Another block's memory at that place. Where a block's memory begins does not depend on the place.
static __device__ float of(int block, int place) {
    return groups::this_cluster().map_shared_rank(memory(0), block)[place];
}
static __device__ int rank() { return (int)groups::this_cluster().block_rank(); }
// The columns of n that are a block's own.
static __device__ int begin(int n) { return rank() * slice(n); }
static __device__ int count(int n) {
    int left = n - begin(n);
    return left < 0 ? 0 : least(left, slice(n));
}

// Which tile of a product a thread computes at a time: the one that takes the fewest cycles.
struct Tile { int down, across; };
static __device__ constexpr Tile tile(int n, int m) {
    Tile best{1, 1};
    int least_cost = 0;
    for (int down = 1; down <= 8; down *= 2)
        for (int across = 1; across <= 8; across *= 2) {
            int tiles = ((n + down - 1) / down) * ((m + across - 1) / across);
            int cost = (tiles + THREADS - 1) / THREADS * (down * across + 2 * (down + across));
            if (least_cost && cost >= least_cost) continue;
            least_cost = cost;
            best = {down, across};
        }
    return best;
}

// use(i, j, sum over k of a(i, k) b(k, j)) for N rows and M columns. The threads of a warp have
// neighbouring columns.
template <int N, int M, int K, class A, class B, class Use>
static __device__ void product(A a, B b, Use use) {
    constexpr int DOWN = tile(N, M).down, ACROSS = tile(N, M).across;
    constexpr int HIGH = (N + DOWN - 1) / DOWN, LONG = (M + ACROSS - 1) / ACROSS;
    for (int t = threadIdx.x; t < HIGH * LONG; t += THREADS) {
        int row = t / LONG, column = t % LONG;
        float sums[DOWN][ACROSS];
#pragma unroll
        for (int i = 0; i < DOWN; ++i)
#pragma unroll
            for (int j = 0; j < ACROSS; ++j) sums[i][j] = 0.0f;
#pragma unroll 2
        for (int k = 0; k < K; ++k) {
            float left[DOWN], right[ACROSS];
#pragma unroll
            for (int i = 0; i < DOWN; ++i) left[i] = a(least(row + i * HIGH, N - 1), k);
#pragma unroll
            for (int j = 0; j < ACROSS; ++j) right[j] = b(k, least(column + j * LONG, M - 1));
#pragma unroll
            for (int i = 0; i < DOWN; ++i)
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) sums[i][j] = fmaf(left[i], right[j], sums[i][j]);
        }
#pragma unroll
        for (int i = 0; i < DOWN; ++i)
#pragma unroll
            for (int j = 0; j < ACROSS; ++j)
                if (row + i * HIGH < N && column + j * LONG < M)
                    use(row + i * HIGH, column + j * LONG, sums[i][j]);
    }
}

struct Numbers { float at[SCALARS]; };

// One parameter and its moments, `apart` floats from one another.
static __device__ void update(float* p, int apart, float g, const Numbers& numbers) {
    float results[1 + STATES];
    updated(results, p, apart, g, numbers.at);
#pragma unroll
    for (int s = 0; s <= STATES; ++s) p[s * apart] = results[s];
}

// Parameters and their moments in global memory, each flat.
struct Flat {
    float *p, *first, *second;
    __device__ float* of(int state) const {
        return state == 0 ? p : state == 1 ? first : second;
    }
};

// A layer's parameters, or one of their moments, from global memory. Rows of weights that are
// beyond a layer's inputs are zero.
template <int L> static __device__ void fetch_layer(const float* flat, int state) {
    constexpr int IN = SIZES[L], OUT = SIZES[L + 1], W = AT.weights[L], B = AT.bias[L];
    const float* from = flat + OFFSETS[2 * L] + (Wide)begin(IN) * OUT;
    float* w = memory(W + state * weights(L));
    const int rows = count(IN), first = last(L) ? 0 : begin(OUT), own = last(L) ? OUT : count(OUT);
    for (int i = threadIdx.x; i < slice(IN) * OUT; i += THREADS)
        w[i / OUT * odd(OUT) + i % OUT] = i / OUT < rows ? from[i] : 0.0f;
    for (int i = threadIdx.x; i < own; i += THREADS)
        memory(B + state * biases(L))[i] = flat[OFFSETS[2 * L + 1] + first + i];
}

template <int L> static __device__ void store_layer(float* flat, int state) {
    constexpr int IN = SIZES[L], OUT = SIZES[L + 1], W = AT.weights[L], B = AT.bias[L];
    float* to = flat + OFFSETS[2 * L] + (Wide)begin(IN) * OUT;
    const float* w = memory(W + state * weights(L));
    const int rows = count(IN), first = last(L) ? 0 : begin(OUT), own = last(L) ? OUT : count(OUT);
    for (int i = threadIdx.x; i < rows * OUT; i += THREADS) to[i] = w[i / OUT * odd(OUT) + i % OUT];
    if (last(L) && rank() != 0) return;  // all blocks have the same: the first one's
    for (int i = threadIdx.x; i < own; i += THREADS)
        flat[OFFSETS[2 * L + 1] + first + i] = memory(B + state * biases(L))[i];
}

template <int L> static __device__ void fetch_all(const Flat& flat) {
    for (int s = 0; s <= STATES; ++s) fetch_layer<L>(flat.of(s), s);
    if constexpr (!last(L)) fetch_all<L + 1>(flat);
}

template <int L> static __device__ void store_all(const Flat& flat) {
    for (int s = 0; s <= STATES; ++s) store_layer<L>(flat.of(s), s);
    if constexpr (!last(L)) store_all<L + 1>(flat);
}

// Where row i of this step's batch is: as `order` says, from the end if negative, or simply the next.
static __device__ Wide row_of(const Wide* order, int i, Wide n) {
    const Wide row = order ? order[i] : i;
    return row < 0 ? row + n : row;
}

// A block's columns of the rows of this step. A row that is out of range reads as NaN.
static __device__ void fetch_rows(const float* x, const Wide* order, Wide n) {
    constexpr int IN = SIZES[0], OWN = slice(IN), A = AT.inputs[0];
    const int own = count(IN), first = begin(IN);
    for (int i = threadIdx.x; i < BATCH * OWN; i += THREADS) {
        const int column = i % OWN;
        const Wide row = row_of(order, i / OWN, n);
        float one = 0.0f;
        if (row < 0 || row >= n)
            one = nanf("");
        else if (column < own)
            one = x[row * IN + first + column];
        memory(A)[i] = one;
    }
}

// The sum of all blocks' values at a place, in their order.
static __device__ float summed(int place) {
    float sum = 0.0f;
#pragma unroll
    for (int block = 0; block < CLUSTER; ++block) sum += of(block, place);
    return sum;
}

// Products, layer by layer, up to each block's part of the logits.
template <int L> static __device__ void forward() {
    constexpr int OWN = slice(SIZES[L]), OUT = SIZES[L + 1], NEXT = slice(OUT);
    constexpr int A = AT.inputs[L], W = AT.weights[L], PART = AT.sums[L % 2];
    const float *a = memory(A), *w = memory(W);
    float* part = memory(PART);
    product<BATCH, OUT, OWN>(
        [=](int i, int k) { return a[i * OWN + k]; },
        [=](int k, int j) { return w[k * odd(OUT) + j]; },
        [=](int i, int j, float sum) { part[i * OUT + j] = sum; });
    groups::this_cluster().sync();  // PARTS
    if constexpr (!last(L)) {
        constexpr int B = AT.bias[L], KEPT = AT.outputs[L], Y = AT.inputs[L + 1];
        const int own = count(OUT), first = begin(OUT);
        for (int i = threadIdx.x; i < BATCH * NEXT; i += THREADS) {
            const int row = i / NEXT, column = i % NEXT;
            float z = 0.0f, y = 0.0f;
            if (column < own) {
                z = summed(PART + row * OUT + first + column) + memory(B)[column];
                y = value(z);
            }
            memory(Y)[i] = y;
            memory(KEPT)[i] = KEEPS_INPUT ? z : y;
        }
        __syncthreads();
        forward<L + 1>();
    }
}

// Cross-entropy of a block's rows, and its gradient with respect to their logits.
// A class out of range is told in `notes`, unless one has been, as 1 + 2^32 row + its last 32 bits.
static __device__ void loss(const Wide* classes, const Wide* order, Wide n, Wide* notes) {
    constexpr int OUT = SIZES[LAYERS], PART = AT.sums[(LAYERS - 1) % 2], B = AT.bias[LAYERS - 1];
    constexpr int ROWS = AT.rows, LOSSES = AT.losses;
    const int own = count(BATCH), first = begin(BATCH);
    for (int i = threadIdx.x; i < own * OUT; i += THREADS)
        memory(ROWS)[i] = summed(PART + first * OUT + i) + memory(B)[i % OUT];
    __syncthreads();
    for (int i = threadIdx.x; i < own; i += THREADS) {
        float* z = memory(ROWS) + i * OUT;
        const Wide row = row_of(order, first + i, n);
        const Wide target = row >= 0 && row < n ? classes[row] : -1;
        const bool odd = row >= 0 && row < n && (target < 0 || target >= OUT);
        if (odd && notes && *notes == 0)
            *notes = ((Wide)(first + i) << 32) + (target & 0xFFFFFFFFLL) + 1;
        const float chosen = target >= 0 && target < OUT ? z[target] : nanf("");
        float most = z[0], total = 0.0f;
        for (int j = 1; j < OUT; ++j) most = z[j] > most ? z[j] : most;
        for (int j = 0; j < OUT; ++j) total += expf(z[j] - most);
        memory(LOSSES)[i] = logf(total) - (chosen - most);
        for (int j = 0; j < OUT; ++j)
            z[j] = (expf(z[j] - most) / total - (j == target ? 1.0f : 0.0f)) / BATCH;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int i = 0; i < own; ++i) sum += memory(LOSSES)[i];
        memory(LOSSES)[SHARE] = sum;
    }
    groups::this_cluster().sync();  // LOSS
}

// From the gradient of a layer's outputs to that of its inputs, and the update. The parameters'
// gradient is written to `gradient` too, where that is given.
template <int L> static __device__ void backward(const Numbers& numbers, float* gradient) {
    constexpr int OWN = slice(SIZES[L]), OUT = SIZES[L + 1], NEXT = slice(OUT);
    constexpr int A = AT.inputs[L], W = AT.weights[L], B = AT.bias[L], G = AT.sums[L % 2];
    constexpr int ROWS = AT.rows, OUTPUTS = AT.outputs[L];
    const float* a = memory(A);
    float *w = memory(W), *g = memory(G);
    // All of it, from the blocks that own its rows, or its columns.
    for (int i = threadIdx.x; i < BATCH * OUT; i += THREADS) {
        const int row = i / OUT, column = i % OUT;
        g[i] = last(L) ? of(row / SHARE, ROWS + row % SHARE * OUT + column)
                       : of(column / NEXT, OUTPUTS + row * NEXT + column % NEXT);
    }
    __syncthreads();  // GATHERED
    if constexpr (L > 0) {
        constexpr int BELOW = AT.outputs[L - 1];
        float* below = memory(BELOW);
        product<BATCH, OWN, OUT>(
            [=](int i, int k) { return g[i * OUT + k]; },
            [=](int k, int j) { return w[j * odd(OUT) + k]; },
            [=](int i, int j, float da) { below[i * OWN + j] = da * slope(below[i * OWN + j]); });
        groups::this_cluster().sync();  // BELOW is there, and the weights are done with
    }
    const int rows = count(SIZES[L]);
    product<OWN, OUT, BATCH>(
        [=](int i, int k) { return a[k * OWN + i]; },
        [=](int k, int j) { return g[k * OUT + j]; },
        [=, &numbers](int i, int j, float dw) {
            if (i >= rows) return;
            if (gradient) gradient[OFFSETS[2 * L] + (Wide)(begin(SIZES[L]) + i) * OUT + j] = dw;
            update(w + i * odd(OUT) + j, weights(L), dw, numbers);
        });
    const int first = last(L) ? 0 : begin(OUT), own = last(L) ? OUT : count(OUT);
    for (int j = threadIdx.x; j < own; j += THREADS) {
        float sum = 0.0f;
        for (int i = 0; i < BATCH; ++i) sum += g[i * OUT + first + j];
        if (gradient && (!last(L) || rank() == 0)) gradient[OFFSETS[2 * L + 1] + first + j] = sum;
        update(memory(B) + j, biases(L), sum, numbers);
    }
    if constexpr (L > 0) backward<L - 1>(numbers, gradient);
}

// `steps` steps. Each has its own rows of x (n, SIZES[0]) and classes (n,), so many elements after
// those of the step before; with `order` (steps, BATCH), the rows that it names instead. The
// optimizer's numbers of a step are at `scalars`, as many apart; its loss, the mean of its rows,
// goes to `losses`. Parameters p and their moments are changed in place, and the last step's
// gradient is written where one is wanted. A class that is out of range has the loss NaN, and is told
// in `notes` where they are given.
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
    cluster_step(const float* x, const Wide* classes, const Wide* order, const float* scalars,
                 float* p, float* first, float* second, float* gradient, float* losses,
                 Wide* notes, Wide n, Wide x_apart, Wide classes_apart, Wide scalars_apart, Wide losses_apart,
                 int steps) {
    constexpr int LOSS = AT.losses + SHARE;
    const Flat flat{p, first, second};
    fetch_all<0>(flat);
    for (int t = 0; t < steps; ++t) {
        Numbers numbers;
        for (int i = 0; i < SCALARS; ++i) numbers.at[i] = scalars[i];
        fetch_rows(x, order, n);
        __syncthreads();  // FETCHED
        forward<0>();
        loss(classes, order, n, notes);
        if (rank() == 0 && threadIdx.x == 0) *losses = summed(LOSS) / BATCH;
        backward<LAYERS - 1>(numbers, t == steps - 1 ? gradient : nullptr);
        __syncthreads();  // the weights are the new ones
        x += x_apart, classes += classes_apart, scalars += scalars_apart, losses += losses_apart;
        if (order) order += BATCH;
    }
    groups::this_cluster().sync();  // nobody reads this block's memory any more
    store_all<0>(flat);
}
