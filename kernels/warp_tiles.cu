// Tiles of matrices that warps hold, and their products: what the kernels of fused_mlp.cu, whose text
// comes after this one, are made of.
using Half = unsigned short;
using Wide = long long;

constexpr int ROWS = 16 * WARPS;  // of the batch, in a block; a warp has 16 of its own
constexpr int THREADS = 32 * WARPS;
constexpr int TILES = WIDTH / 16;
constexpr int LD = WIDTH + 8;     // 16 bytes more a row: the rows of a tile are in other banks
constexpr int CHUNK = WIDTH * LD;      // numbers of 16 bits
constexpr int SUMS = WIDTH * WIDTH;    // the gradient of a chunk, in float32

// What a lane holds of a 16 by 16 factor: pairs of neighbours of its row, lane / 4, and of the one
// 8 below; in columns from 2 * (lane % 4) on, then 8 further. And of two results of 8 columns.
struct alignas(16) Factor { unsigned at[4]; };
struct alignas(16) Quarter { float at[4]; };

extern __shared__ __align__(128) unsigned char fused_mlp_memory[];

#ifdef __CUDACC__
static __device__ unsigned shared_place(const void* p) {
    return (unsigned)__cvta_generic_to_shared(p);
}
// Four tiles of 8 by 8 from rows of shared memory: lane i has the place of row i % 8 of tile i / 8.
static __device__ void tiles_at(unsigned* to, const Half* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_place(row)) : "memory");
}
static __device__ void turned_tiles_at(unsigned* to, const Half* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_place(row)) : "memory");
}
// The transpose of a tile of 8 by 8 that a warp holds.
static __device__ unsigned turned(unsigned tile) {
    unsigned result;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(tile));
    return result;
}
// sums (16, 8) += a (16, 16) @ b (16, 8).
static __device__ void multiply_tiles(float* sums, const unsigned* a, unsigned b0, unsigned b1) {
    if constexpr (BFLOAT16)
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Two numbers rounded to 16 bits, the first in the lower half; and back.
static __device__ unsigned packed(float low, float high) {
    unsigned both;
    if constexpr (BFLOAT16)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
static __device__ float widened(Half x) {
    float wide;
    if constexpr (BFLOAT16)
        asm("mov.b32 %0, {%1, %2};" : "=f"(wide) : "h"((Half)0), "h"(x));
    else
        asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x));
    return wide;
}
#else
static unsigned packed(float low, float high) { return packed_as<BFLOAT16>(low, high); }
static float widened(Half x) { return widened_as<BFLOAT16>(x); }
static void multiply_tiles(float* sums, const unsigned* a, unsigned b0, unsigned b1) {
    multiply_tiles_of<BFLOAT16>(sums, a, b0, b1);
}
#endif

static __device__ float low(unsigned both) { return widened((Half)(both & 0xffff)); }
static __device__ float high(unsigned both) { return widened((Half)(both >> 16)); }
static __device__ int least(int a, int b) { return a < b ? a : b; }
static __device__ int chunks(int size) { return (size + WIDTH - 1) / WIDTH; }
// Tiles of 16 that so many of a chunk's rows or columns take.
static __device__ int tiles(int size) { return (least(size, WIDTH) + 15) / 16; }
static __device__ int lane() { return threadIdx.x % 32; }
static __device__ int warp() { return threadIdx.x / 32; }
static __device__ Wide tiles_of(Wide n) { return (n + 15) / 16; }
static __device__ Half* memory() { return (Half*)fused_mlp_memory; }

// A chunk of weights into shared memory, so many rows and columns of it as there are, and zero.
static __device__ void fetch(Half* to, const float* from, int rows, int columns, int stride) {
    constexpr int FOURS = WIDTH / 4;
    bool whole = columns >= WIDTH && stride % 4 == 0 && (unsigned long long)from % 16 == 0;
#pragma unroll 4
    for (int i = threadIdx.x; i < WIDTH * FOURS; i += THREADS) {
        int row = i / FOURS, column = i % FOURS * 4;
        Quarter q{};
        const float* place = from + (Wide)row * stride + column;
        if (row < rows) {
            if (whole)
                q = *(const Quarter*)place;
            else
#pragma unroll
                for (int j = 0; j < 4; ++j) q.at[j] = column + j < columns ? place[j] : 0.0f;
        }
        unsigned* two = (unsigned*)(to + row * LD + column);
        two[0] = packed(q.at[0], q.at[1]);
        two[1] = packed(q.at[2], q.at[3]);
    }
}

// Where the chunks of weights are: each in a place of its own, or all in one, by turns.
struct Weights {
    Half* first;
    bool resident;
    // The block's threads may meet here.
    __device__ const Half* chunk(int i, const float* from, int rows, int columns, int stride) const {
        if (resident) return first + i * CHUNK;
        __syncthreads();  // the previous one is done with
        fetch(first, from, rows, columns, stride);
        __syncthreads();  // FETCHED
        return first;
    }
};

static __device__ void clear(float (*sums)[4]) {
#pragma unroll
    for (int c = 0; c < 2 * TILES; ++c)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[c][i] = 0.0f;
}

// sums += a @ weights, for the 16 rows of a warp: so many tiles of rows of the weights and columns.
static __device__ void multiply(float (*sums)[4], const Factor* a, const Half* weights, int down,
                                int across) {
    const Half* mine = weights + lane() % 16 * LD + lane() / 16 * 8;
#pragma unroll
    for (int k = 0; k < TILES; ++k) {
        if (k >= down) continue;
#pragma unroll
        for (int c = 0; c < TILES; ++c) {
            if (c >= across) continue;
            unsigned b[4];
            turned_tiles_at(b, mine + 16 * k * LD + 16 * c);
            multiply_tiles(sums[2 * c], a[k].at, b[0], b[1]);
            multiply_tiles(sums[2 * c + 1], a[k].at, b[2], b[3]);
        }
    }
}

// sums += g @ weights.T, for the 16 rows of a warp, which are in shared memory: so many tiles of
// columns of g.
static __device__ void multiply_turned(float (*sums)[4], const Half* g, const Half* weights,
                                       int deep) {
    const Half* row = g + lane() % 16 * LD + lane() / 16 * 8;
    const Half* mine = weights + (lane() % 8 + lane() / 16 * 8) * LD + lane() / 8 % 2 * 8;
#pragma unroll 1
    for (int k = 0; k < deep; ++k) {
        unsigned a[4];
        tiles_at(a, row + 16 * k);
#pragma unroll
        for (int c = 0; c < TILES; ++c) {
            unsigned b[4];
            tiles_at(b, mine + 16 * c * LD + 16 * k);
            multiply_tiles(sums[2 * c], a, b[0], b[1]);
            multiply_tiles(sums[2 * c + 1], a, b[2], b[3]);
        }
    }
}

// use(row, column, two neighbours of a result), for what a lane has of the 16 rows of its warp.
template <typename Use> static __device__ void each(float (*sums)[4], Use use) {
    int row = lane() / 4, column = lane() % 4 * 2;
#pragma unroll
    for (int c = 0; c < 2 * TILES; ++c) {
        use(row, 8 * c + column, sums[c]);
        use(row + 8, 8 * c + column, sums[c] + 2);
    }
}

// An element of a matrix of so many rows and columns, and zero beyond.
static __device__ float element(const float* x, Wide row, Wide rows, int column, int columns,
                                int stride) {
    return row < rows && column < columns ? x[row * stride + column] : 0.0f;
}

// How the gradient of a chunk is shared out: a warp adds up DOWN by ACROSS tiles of it at a time.
constexpr int DOWN = TILES >= 8 ? 2 : 1;
static __device__ constexpr int within(int a, int most) { return a < 1 ? 1 : a < most ? a : most; }
constexpr int ACROSS = within(TILES * TILES / DOWN / WARPS, TILES < 4 ? TILES : 4);
constexpr int GROUPS = TILES / DOWN;

// to (+)= a.T @ g over `deep` tiles of a block's rows: `down` tiles of rows, `across` of columns;
// and bias (+)= the sums of g, unless it is null. `left(k, i)` is the transpose of a's tile of rows
// k and columns i. Nothing is added to where `from` is null. A lane reads what it wrote itself.
template <class Left>
static __device__ void add_outer(Quarter* to, const Quarter* from, float* bias, bool adds,
                                 Left left, const Half* g, int deep, int down, int across) {
    const unsigned one = packed(1.0f, 1.0f);
    const unsigned all_ones[4] = {one, one, one, one};
    const Half* place = g + lane() % 16 * LD + lane() / 16 * 8;
    const int groups = (down + DOWN - 1) / DOWN;
    for (int u = warp(); u < GROUPS * (TILES / ACROSS); u += WARPS) {
        const int group = u / (TILES / ACROSS), i0 = group * DOWN, j0 = u % (TILES / ACROSS) * ACROSS;
        if (i0 >= down || j0 >= across) continue;
        float sums[DOWN][2 * ACROSS][4], ones[ACROSS][2][4];
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; ++j)
#pragma unroll
            for (int i = 0; i < DOWN; ++i) {
                Quarter q{};
                if (from) q = from[((i0 + i) * 2 * TILES + 2 * j0 + j) * 32 + lane()];
#pragma unroll
                for (int e = 0; e < 4; ++e) sums[i][j][e] = q.at[e], ones[j / 2][j % 2][e] = 0.0f;
            }
#pragma unroll 1
        for (int k = 0; k < deep; k += Left::AHEAD) {
            Factor a[Left::AHEAD][DOWN];
#pragma unroll
            for (int s = 0; s < Left::AHEAD; ++s)
#pragma unroll
                for (int i = 0; i < DOWN; ++i) a[s][i] = left.load(k + s, i0 + i);
#pragma unroll
            for (int s = 0; s < Left::AHEAD; ++s) {
                if (k + s >= deep) continue;
#pragma unroll
                for (int i = 0; i < DOWN; ++i) a[s][i] = left.turn(a[s][i]);
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) {
                    if (j0 + j >= across) continue;
                    unsigned b[4];
                    turned_tiles_at(b, place + 16 * (k + s) * LD + 16 * (j0 + j));
#pragma unroll
                    for (int i = 0; i < DOWN; ++i) {
                        multiply_tiles(sums[i][2 * j], a[s][i].at, b[0], b[1]);
                        multiply_tiles(sums[i][2 * j + 1], a[s][i].at, b[2], b[3]);
                    }
                    if (bias && (j0 + j) % groups == group) {
                        multiply_tiles(ones[j][0], all_ones, b[0], b[1]);
                        multiply_tiles(ones[j][1], all_ones, b[2], b[3]);
                    }
                }
            }
        }
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; ++j) {
#pragma unroll
            for (int i = 0; i < DOWN; ++i) {
                Quarter q;
#pragma unroll
                for (int e = 0; e < 4; ++e) q.at[e] = sums[i][j][e];
                to[((i0 + i) * 2 * TILES + 2 * j0 + j) * 32 + lane()] = q;
            }
            // All rows of a product with ones are the same: the first has it.
            if (bias && lane() < 4 && (j0 + j / 2) % groups == group) {
                float* sum = bias + 16 * j0 + 8 * j + 2 * lane();
                sum[0] = (adds ? sum[0] : 0.0f) + ones[j / 2][j % 2][0];
                sum[1] = (adds ? sum[1] : 0.0f) + ones[j / 2][j % 2][1];
            }
        }
    }
}

// The activations of a layer, as they were multiplied by the next one's weights.
struct Kept {
    static constexpr int AHEAD = TILES < 8 && WARPS <= 8 ? 4 : 2;  // tiles that are loaded at once
    const Factor* kept;  // of the block's first rows, and a lane
    int deep;
    __device__ Factor load(int k, int i) const {
        return k < deep ? kept[(k * TILES + i) * 32] : Factor{};
    }
    __device__ Factor turn(const Factor& q) const {
        Factor a;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            unsigned one = q.at[e];
            if (KEEPS_INPUT) one = packed(value(low(one)), value(high(one)));
            a.at[e / 2 + e % 2 * 2] = turned(one);
        }
        return a;
    }
};

// Columns of x.
struct Inputs {
    static constexpr int AHEAD = 1;
    const float* x;
    Wide rows;
    int columns, stride;
    __device__ Factor load(int k, int i) const {
        Factor a;
        const int row = 16 * k + lane() % 4 * 2, column = 16 * i + lane() / 4;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int r = row + e / 2 * 8, c = column + e % 2 * 8;
            a.at[e] = packed(element(x, r, rows, c, columns, stride),
                             element(x, r + 1, rows, c, columns, stride));
        }
        return a;
    }
    __device__ Factor turn(const Factor& a) const { return a; }
};

// Where the gradient of chunks is while a block takes its rows, ROWS at a time: of the first ones in
// shared memory, as many as there is room for, of the others in the block's part of it.
struct Round {
    const Half* g;
    Quarter *inside, *part;
    int room, deep;
    bool adds, ends;
    template <class Left>
    __device__ void outer(int chunk, float* bias, Left left, int down, int across) const {
        Quarter* outside = part + (Wide)chunk * (SUMS / 4);
        Quarter* held = chunk < room ? inside + chunk * (SUMS / 4) : outside;
        add_outer(ends ? outside : held, adds ? held : nullptr, bias, adds, left, g, deep, down,
                  across);
    }
};

// The columns of dy that a chunk has, for the 16 rows of a warp.
static __device__ void fetch_own(Half* to, const float* dy, Wide rows, int columns, int stride) {
    const int pairs = 8 * tiles(columns);
#pragma unroll 4
    for (int i = lane(); i < 16 * pairs; i += 32) {
        int row = i / pairs, column = i % pairs * 2;
        *(unsigned*)(to + row * LD + column) =
            packed(element(dy, row, rows, column, columns, stride),
                   element(dy, row, rows, column + 1, columns, stride));
    }
}
