// A whole MLP forward, and its whole backward, in one kernel each.
//
// It is C++ because Numba has no tensor cores (WMMA), no bfloat16 arithmetic and no aligned dynamic
// shared memory of several types. Rows of the batch are independent, so a block takes ROWS of them
// through all layers: their activations stay in shared memory, and only the weights stream by.
//
// Before this text comes what was chosen for a network (see fused_mlp.py): WIDTH, WARPS, BFLOAT16,
// KEEPS_INPUT, and the functions of one float `value` and `slope`, written from the formulas.
// Products take 16-bit factors and are summed in float32, always. The order of every sum depends
// on the sizes alone: weight gradients are summed per block, then over the blocks in order.
//
// Parameters are one flat float32 array: for each layer its weights (in, out), then its bias.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

template <bool B> struct Rounding {
    using Type = __half;
    static __device__ __half narrow(float x) { return __float2half(x); }
    static __device__ float wide(__half x) { return __half2float(x); }
};
template <> struct Rounding<true> {
    using Type = __nv_bfloat16;
    static __device__ __nv_bfloat16 narrow(float x) { return __float2bfloat16(x); }
    static __device__ float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
};
using Half = Rounding<BFLOAT16>::Type;
using Wide = long long;

constexpr int ROWS = 16 * WARPS;    // of the batch, in a block; a warp has 16 of its own
constexpr int THREADS = 32 * WARPS;
constexpr int TILES = WIDTH / 16;
constexpr int LD = WIDTH + 8;       // 16 bytes more a row: the rows of a tile start in other banks
constexpr int SCRATCH_LD = 20;

namespace wmma = nvcuda::wmma;
using Sum = wmma::fragment<wmma::accumulator, 16, 16, 16, float>;
using Left = wmma::fragment<wmma::matrix_a, 16, 16, 16, Half, wmma::row_major>;
using LeftTurned = wmma::fragment<wmma::matrix_a, 16, 16, 16, Half, wmma::col_major>;
using Right = wmma::fragment<wmma::matrix_b, 16, 16, 16, Half, wmma::row_major>;
using RightTurned = wmma::fragment<wmma::matrix_b, 16, 16, 16, Half, wmma::col_major>;

extern __shared__ __align__(128) unsigned char fused_mlp_memory[];

static __device__ Half narrow(float x) { return Rounding<BFLOAT16>::narrow(x); }
static __device__ float wide(Half x) { return Rounding<BFLOAT16>::wide(x); }
static __device__ Wide least(Wide a, Wide b) { return a < b ? a : b; }
static __device__ int padded(int size) { return (size + 15) / 16 * 16; }

// COUNT rows of WIDTH columns into shared memory, zero beyond what there is.
template <int COUNT>
static __device__ void fetch(Half* to, const float* from, Wide rows, int columns, int stride) {
    for (int i = threadIdx.x; i < COUNT * WIDTH; i += THREADS) {
        int row = i / WIDTH, column = i % WIDTH;
        bool there = row < rows && column < columns;
        to[row * LD + column] = narrow(there ? from[(Wide)row * stride + column] : 0.0f);
    }
}

// The activations of a layer, as they were multiplied by the next one's weights.
static __device__ void fetch_kept(Half* to, const Half* kept, Wide rows) {
    for (int i = threadIdx.x; i < ROWS * WIDTH; i += THREADS) {
        int row = i / WIDTH, column = i % WIDTH;
        Half one = narrow(0.0f);
        if (row < rows) {
            one = kept[i];
            if (KEEPS_INPUT) one = narrow(value(wide(one)));
        }
        to[row * LD + column] = one;
    }
}

static __device__ void clear(Sum* sums) {
#pragma unroll
    for (int c = 0; c < TILES; ++c) wmma::fill_fragment(sums[c], 0.0f);
}

// sums += rows @ weights, for the 16 rows of a warp.
static __device__ void multiply(Sum* sums, const Half* rows, const Half* weights) {
    Left left;
    Right right;
#pragma unroll 1
    for (int k = 0; k < TILES; ++k) {
        wmma::load_matrix_sync(left, rows + 16 * k, LD);
#pragma unroll
        for (int c = 0; c < TILES; ++c) {
            wmma::load_matrix_sync(right, weights + 16 * k * LD + 16 * c, LD);
            wmma::mma_sync(sums[c], left, right, sums[c]);
        }
    }
}

// sums += rows @ weights.T, for the 16 rows of a warp.
static __device__ void multiply_turned(Sum* sums, const Half* rows, const Half* weights) {
    Left left;
    RightTurned right;
#pragma unroll 1
    for (int k = 0; k < TILES; ++k) {
        wmma::load_matrix_sync(left, rows + 16 * k, LD);
#pragma unroll
        for (int c = 0; c < TILES; ++c) {
            wmma::load_matrix_sync(right, weights + 16 * c * LD + 16 * k, LD);
            wmma::mma_sync(sums[c], left, right, sums[c]);
        }
    }
}

// What a warp does with each number of its 16 rows: which lane holds which element of a fragment
// is unspecified, so the fragments go through the warp's scratch, one tile at a time.
template <typename Use> static __device__ void each(Sum* sums, float* scratch, Use use) {
    int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int c = 0; c < TILES; ++c) {
        wmma::store_matrix_sync(scratch, sums[c], SCRATCH_LD, wmma::mem_row_major);
        __syncwarp();
        for (int i = lane; i < 256; i += 32)
            use(i / 16, 16 * c + i % 16, scratch[i / 16 * SCRATCH_LD + i % 16]);
        __syncwarp();
    }
}

// to (+)= a.T @ g over the block's rows. A tile of `to` is one warp's, in every round.
static __device__ void outer(float* to, int stride, const Half* a, const Half* g, int down,
                             int across, bool first) {
    LeftTurned left;
    Right right;
    Sum sum;
    for (int t = threadIdx.x / 32; t < TILES * TILES; t += WARPS) {
        int i = t / TILES, j = t % TILES;
        if (i >= down || j >= across) continue;
        float* place = to + (Wide)16 * i * stride + 16 * j;
        if (first)
            wmma::fill_fragment(sum, 0.0f);
        else
            wmma::load_matrix_sync(sum, place, stride, wmma::mem_row_major);
#pragma unroll 1
        for (int k = 0; k < WARPS; ++k) {
            wmma::load_matrix_sync(left, a + 16 * k * LD + 16 * i, LD);
            wmma::load_matrix_sync(right, g + 16 * k * LD + 16 * j, LD);
            wmma::mma_sync(sum, left, right, sum);
        }
        wmma::store_matrix_sync(place, sum, stride, wmma::mem_row_major);
    }
}

// to (+)= the sums of g over the block's rows.
static __device__ void columns(float* to, const Half* g, int count, bool first) {
    for (int column = threadIdx.x; column < WIDTH && column < count; column += THREADS) {
        float sum = first ? 0.0f : to[column];
        for (int row = 0; row < ROWS; ++row) sum += wide(g[row * LD + column]);
        to[column] = sum;
    }
}

// y (n, outputs) from x (n, inputs); kept (depth, n, WIDTH), or null, is what backward needs.
extern "C" __global__ void __launch_bounds__(THREADS)
    fused_mlp_forward(const float* x, const float* parameters, Half* kept, float* y, Wide n,
                      int inputs, int outputs, int depth) {
    int warp = threadIdx.x / 32;
    Half* weights = (Half*)fused_mlp_memory;
    Half* rows = weights + WIDTH * LD;
    Half* mine = rows + 16 * warp * LD;
    float* scratch = (float*)(rows + ROWS * LD) + 16 * SCRATCH_LD * warp;
    Sum sums[TILES];
    for (Wide start = (Wide)blockIdx.x * ROWS; start < n; start += (Wide)gridDim.x * ROWS) {
        Wide here = least(n - start, ROWS), own = here - 16 * warp;
        const float* layer = parameters;
        clear(sums);
        for (int k = 0; k < inputs; k += WIDTH) {
            __syncthreads();  // the previous weights and rows are done with
            fetch<ROWS>(rows, x + start * inputs + k, here, inputs - k, inputs);
            fetch<WIDTH>(weights, layer + (Wide)k * WIDTH, inputs - k, WIDTH, WIDTH);
            __syncthreads();  // FETCHED
            multiply(sums, mine, weights);
        }
        layer += (Wide)inputs * WIDTH;
        for (int l = 0; l < depth; ++l) {
            if (l > 0) {
                __syncthreads();  // the previous weights are done with
                fetch<WIDTH>(weights, layer, WIDTH, WIDTH, WIDTH);
                __syncthreads();
                clear(sums);
                multiply(sums, mine, weights);
                layer += WIDTH * WIDTH;
            }
            Half* keep = kept ? kept + (l * n + start + 16 * warp) * WIDTH : nullptr;
            each(sums, scratch, [=](int row, int column, float z) {
                z += layer[column];
                Half narrowed = narrow(z);
                Half a = narrow(value(KEEPS_INPUT ? wide(narrowed) : z));
                mine[row * LD + column] = a;
                if (keep && row < own) keep[row * WIDTH + column] = KEEPS_INPUT ? narrowed : a;
            });
            layer += WIDTH;
        }
        const float* bias = layer + (Wide)WIDTH * outputs;
        for (int c = 0; c < outputs; c += WIDTH) {
            __syncthreads();  // the previous weights are done with
            fetch<WIDTH>(weights, layer + c, WIDTH, outputs - c, outputs);
            __syncthreads();
            clear(sums);
            multiply(sums, mine, weights);
            float* to = y + (start + 16 * warp) * outputs;
            each(sums, scratch, [=](int row, int column, float z) {
                if (row < own && c + column < outputs)
                    to[(Wide)row * outputs + c + column] = z + bias[c + column];
            });
        }
    }
}

// From g (n, outputs): dx (n, inputs), or null, and each block's part of the parameters' gradient.
// A part has all weights first, in whole tiles, then all biases (see fused_mlp_reduce). Every block
// must have rows: the grid is at most ceil(n / ROWS) blocks.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    fused_mlp_backward(const float* x, const float* parameters, const Half* kept, const float* dy,
                       float* dx, float* parts, Wide n, int inputs, int outputs, int depth) {
    int warp = threadIdx.x / 32;
    Half* weights = (Half*)fused_mlp_memory;
    Half* a = weights + WIDTH * LD;
    Half* g = a + ROWS * LD;
    Half* mine = g + 16 * warp * LD;
    float* scratch = (float*)(g + ROWS * LD) + 16 * SCRATCH_LD * warp;
    int wide_inputs = padded(inputs), wide_outputs = padded(outputs);
    const Wide hidden = (Wide)WIDTH * WIDTH;
    Wide weights_end = (Wide)wide_inputs * WIDTH + (depth - 1) * hidden + (Wide)WIDTH * wide_outputs;
    float* part = parts + blockIdx.x * (weights_end + (Wide)depth * WIDTH + wide_outputs);
    float* biases = part + weights_end;
    const float* second = parameters + (Wide)inputs * WIDTH + WIDTH;
    const float* last = second + (depth - 1) * (hidden + WIDTH);
    Sum sums[TILES];
    bool first = true;
    for (Wide start = (Wide)blockIdx.x * ROWS; start < n; start += (Wide)gridDim.x * ROWS) {
        Wide here = least(n - start, ROWS), own = here - 16 * warp;
        clear(sums);
        for (int c = 0; c < outputs; c += WIDTH) {
            __syncthreads();  // what was fetched before is done with
            if (c == 0) fetch_kept(a, kept + ((depth - 1) * n + start) * WIDTH, here);
            fetch<ROWS>(g, dy + start * outputs + c, here, outputs - c, outputs);
            fetch<WIDTH>(weights, last + c, WIDTH, outputs - c, outputs);
            __syncthreads();
            outer(part + weights_end - (Wide)WIDTH * wide_outputs + c, wide_outputs, a, g, TILES,
                  (wide_outputs - c) / 16, first);
            columns(biases + depth * WIDTH + c, g, wide_outputs - c, first);
            multiply_turned(sums, mine, weights);
        }
        for (int l = depth - 1; l >= 0; --l) {
            __syncthreads();  // all of g, a and the weights is done with
            const Half* keep = kept + (l * n + start + 16 * warp) * WIDTH;
            each(sums, scratch, [=](int row, int column, float da) {
                float dz = row < own ? da * slope(wide(keep[row * WIDTH + column])) : 0.0f;
                mine[row * LD + column] = narrow(dz);
            });
            if (l > 0) {
                fetch_kept(a, kept + ((l - 1) * n + start) * WIDTH, here);
                fetch<WIDTH>(weights, second + (l - 1) * (hidden + WIDTH), WIDTH, WIDTH, WIDTH);
                __syncthreads();
                outer(part + (Wide)wide_inputs * WIDTH + (l - 1) * hidden, WIDTH, a, g, TILES,
                      TILES, first);
                columns(biases + l * WIDTH, g, WIDTH, first);
                clear(sums);
                multiply_turned(sums, mine, weights);
            }
        }
        for (int k = 0; k < inputs; k += WIDTH) {
            if (k > 0) __syncthreads();  // the previous inputs and weights are done with
            fetch<ROWS>(a, x + start * inputs + k, here, inputs - k, inputs);
            if (dx) fetch<WIDTH>(weights, parameters + (Wide)k * WIDTH, inputs - k, WIDTH, WIDTH);
            __syncthreads();
            outer(part + (Wide)k * WIDTH, WIDTH, a, g, (wide_inputs - k) / 16, TILES, first);
            if (k == 0) columns(biases, g, WIDTH, first);
            if (!dx) continue;
            clear(sums);
            multiply_turned(sums, mine, weights);
            float* to = dx + (start + 16 * warp) * inputs;
            each(sums, scratch, [=](int row, int column, float da) {
                if (row < own && k + column < inputs) to[(Wide)row * inputs + k + column] = da;
            });
        }
        first = false;
    }
}

// The gradient of the flat parameters: the parts of all blocks, summed in their order.
extern "C" __global__ void __launch_bounds__(THREADS)
    fused_mlp_reduce(const float* parts, float* gradient, int blocks, int inputs, int outputs,
                     int depth) {
    int wide_inputs = padded(inputs), wide_outputs = padded(outputs);
    const Wide hidden = (Wide)WIDTH * WIDTH;
    Wide last_weights = (Wide)wide_inputs * WIDTH + (depth - 1) * hidden;
    Wide biases = last_weights + (Wide)WIDTH * wide_outputs;
    Wide size = biases + (Wide)depth * WIDTH + wide_outputs;
    Wide second = (Wide)inputs * WIDTH + WIDTH;
    Wide last = second + (depth - 1) * (hidden + WIDTH);
    Wide total = last + (Wide)WIDTH * outputs + outputs;
    Wide step = (Wide)gridDim.x * THREADS;
    for (Wide i = (Wide)blockIdx.x * THREADS + threadIdx.x; i < total; i += step) {
        Wide place;
        if (i < second) {
            Wide end = (Wide)inputs * WIDTH;
            place = i < end ? i : biases + (i - end);
        } else if (i < last) {
            Wide l = (i - second) / (hidden + WIDTH), j = (i - second) % (hidden + WIDTH);
            place = j < hidden ? (Wide)wide_inputs * WIDTH + l * hidden + j
                               : biases + (l + 1) * WIDTH + (j - hidden);
        } else {
            Wide j = i - last, end = (Wide)WIDTH * outputs;
            place = j < end ? last_weights + j / outputs * wide_outputs + j % outputs
                            : biases + (Wide)depth * WIDTH + (j - end);
        }
        float sum = 0.0f;
        for (int block = 0; block < blocks; ++block) sum += parts[block * size + place];
        gradient[i] = sum;
    }
}
