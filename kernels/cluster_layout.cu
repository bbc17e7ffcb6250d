// Training steps of a whole network, several in one launch, by blocks that are all resident at
// once: how the work is shared. The text of cluster_parts.cu and cluster_step.cu comes after this.
//
// It is C++ for its vector loads, its asynchronous copies and its exchanges. Weights, moments and
// activations stay in the shared memory of the blocks, from the first step to the last; only rows
// of x come from global memory, while the step before them is computed.
//
// Blocks are a grid, DOWN by ACROSS. Block (s, c) has rows [s * ROWS, ...) of the batch and columns
// [c * width(l), ...) of each layer's inputs; the rows of weights that go with those columns are in
// all blocks (*, c), each of which updates its share of them. If TILED, the first layer is a matter
// of its own: block (s, c) has columns [s * width(0), ...) of x, for all rows of the batch, and
// alone the tile of the first weights from those to columns [c * width(1), ...) of the layer's
// outputs. So a step has few exchanges (see `Box`), among those of a row or a column of the grid.
//
// What is exchanged are words of a float and the number of the step, each read or written at once:
// who waits for a number looks at it until it is this step's, and no barrier is needed. There are
// two places for each, for odd and even steps. A block writes to one again two steps later; then it
// has read what all those who read that place have written in between, after they had read it.
//
// Before this text comes what was chosen for a network (see cluster_step.py): LAYERS, SIZES, BATCH,
// DOWN, ACROSS, TILED, THREADS, STATES, SCALARS, OFFSETS, KEEPS_INPUT, and functions written from
// formulas: `value`, `slope` of one float, and `updated` of an optimizer. All is float32, and the
// order of every sum depends on the sizes alone.
using Wide = long long;
using Word = unsigned long long;
struct alignas(16) Quad { float at[4]; };

static __device__ constexpr int pieces(int n, int of) { return (n + of - 1) / of; }
static __device__ constexpr int quads(int n) { return pieces(n, 4); }
static __device__ constexpr int larger(int a, int b) { return a > b ? a : b; }
static __device__ constexpr int smaller(int a, int b) { return a < b ? a : b; }

constexpr int BLOCKS = DOWN * ACROSS, WARPS = THREADS / 32, CLASSES = SIZES[LAYERS];
constexpr int FIRST = TILED ? 1 : 0;  // the first layer whose weights are in all blocks of a column
constexpr int ROWS = pieces(BATCH, DOWN);
constexpr int BESIDE = TILED ? BATCH : ROWS;  // rows of x that a block has
static __device__ constexpr bool last(int l) { return l == LAYERS - 1; }
// How many columns of a layer's inputs are a block's own.
static __device__ constexpr int width(int l) {
    return 4 * quads(pieces(SIZES[l], l || !TILED ? ACROSS : DOWN));
}
// The length of a row of x, and of the first weights: an odd number of quads, so that 8 rows of a
// column are in all banks.
constexpr int LONG = 4 * (width(0) / 4 | 1);
constexpr int OUTS = TILED && LAYERS == 1 ? 4 * quads(CLASSES) : width(smaller(1, LAYERS - 1));
// The length of a row of weights that all blocks of a column have: those of a column in all banks.
static __device__ constexpr int stride(int l) { return SIZES[l + 1] | 1; }
// How many biases of a layer a block holds: those of the last layer are in every block.
static __device__ constexpr int biases(int l) { return last(l) ? CLASSES : width(l + 1); }
// The length of a row of the gradient of a layer's product.
static __device__ constexpr int slopes(int l) { return l || !TILED ? SIZES[l + 1] : OUTS; }

// What all blocks of a column have: weights from FIRST on, all biases; at the end a place that
// brings the sum of the rows' losses.
struct Common { int weights[LAYERS], bias[LAYERS], loss, size; };
static __device__ constexpr Common commons() {
    Common at{};
    int end = 0;
    for (int l = FIRST; l < LAYERS; ++l) at.weights[l] = end, end += width(l) * stride(l);
    for (int l = 0; l < LAYERS; ++l) at.bias[l] = end, end += biases(l);
    at.loss = end;
    at.size = end + 1;
    return at;
}
static __device__ constexpr Common COMMON = commons();
constexpr int SHARE = pieces(COMMON.size, DOWN);  // of them a block updates

// How a thread's tile of the first weights' gradient is: so many quads of inputs by one of outputs,
// for the rows of one of several groups. Its cycles are counted as in `first_tile`.
struct Cut { int deep, tiles, groups, rows; };
static __device__ constexpr Cut cut(int deep) {
    const int tiles = pieces(width(0) / 4, deep) * (OUTS / 4);
    const int groups = larger(1, smaller(smaller(THREADS / tiles, 8), BATCH));
    return {deep, tiles, groups, pieces(BATCH, groups)};
}
static __device__ constexpr int cycles(Cut c) {
    return pieces(c.tiles * c.groups, THREADS) * c.rows * larger(32 * c.deep, 24 * (c.deep + 1)) +
           c.groups * width(0) * OUTS / 16;
}
constexpr Cut CUT = cycles(cut(2)) < cycles(cut(1)) ? cut(2) : cut(1);

// What a block has in shared memory, in floats from its start.
struct Places {
    int order, targets, x, weights, parts, gradient, common, share, inputs[LAYERS], outputs[LAYERS],
        slopes[LAYERS], logits, losses, numbers, end;
};
static __device__ constexpr int taken(int& end, int floats) {
    const int begin = end;
    end += 4 * quads(floats);
    return begin;
}
static __device__ constexpr Places placed() {
    Places at{};
    int end = 0;
    at.order = taken(end, 3 * 2 * BESIDE);  // the rows of three steps, of 64 bits
    at.targets = taken(end, 2 * 2 * ROWS);  // the classes of two
    at.x = taken(end, 2 * BESIDE * LONG);
    if (TILED) {
        at.weights = taken(end, (1 + STATES) * OUTS * LONG);  // a row for each output
        at.parts = taken(end, CUT.groups * OUTS * width(0));
        at.gradient = taken(end, BATCH * OUTS);  // of the first layer's product, for all rows
    }
    at.share = taken(end, (1 + STATES) * SHARE);
    at.common = DOWN == 1 ? at.share : taken(end, COMMON.size);
    for (int l = 0; l < LAYERS; ++l) {
        if (l) at.inputs[l] = taken(end, ROWS * width(l));
        if (l) at.outputs[l] = taken(end, ROWS * width(l));  // what the slope is of
        at.slopes[l] = TILED && l == 0 && DOWN == 1 ? at.gradient : taken(end, ROWS * slopes(l));
    }
    at.logits = taken(end, ROWS * CLASSES);
    at.losses = taken(end, ROWS);
    at.numbers = taken(end, 2 * SCALARS);
    at.end = end;
    return at;
}
static __device__ constexpr Places AT = placed();
static_assert(4 * AT.end == SHARED_BYTES, "the host asks for as much memory as there is use for");

// What a block gives to others, in words from the start of what it gives. To those of its column:
// its part of the first product if TILED, and the product's gradient for its rows; its rows' part
// of the common gradient (sums), and what it has updated (share). To those of its row: its part of
// any other product, and that one's gradient for its columns.
struct Box { int products[LAYERS], slopes[LAYERS], sums, share, size; };
static __device__ constexpr Box boxed() {
    Box at{};
    int end = 0;
    for (int l = 0; l < LAYERS; ++l) {
        const bool first = TILED && l == 0;
        at.products[l] = end;
        if (first ? DOWN > 1 : ACROSS > 1) end += first ? BATCH * OUTS : ROWS * SIZES[l + 1];
        at.slopes[l] = end;
        if (first ? DOWN > 1 : ACROSS > 1 && !last(l))
            end += ROWS * (first ? OUTS : width(l + 1));
    }
    at.sums = end;
    if (DOWN > 1) end += COMMON.size;
    at.share = end;
    if (DOWN > 1) end += SHARE;
    at.size = pieces(end, 16) * 16;
    return at;
}
static __device__ constexpr Box BOX = boxed();
constexpr int HEAD = 16;  // words before the first box: steps made, blocks arrived
static_assert(BLOCKS == 1 || HEAD + 2 * BLOCKS * BOX.size == ROOM_WORDS, "as the host has it");

extern __shared__ __align__(128) unsigned char cluster_step_memory[];

#ifdef __CUDACC__
// Neither reads nor writes of words are ordered with anything else.
static __device__ Word look(const Word* at) {
    Word word;
    asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(word) : "l"(at) : "memory");
    return word;
}
static __device__ void put(Word* at, Word word) {
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" : : "l"(at), "l"(word) : "memory");
}
static __device__ Word look_after(const Word* at) {
    Word word;
    asm volatile("ld.acquire.gpu.global.b64 %0, [%1];" : "=l"(word) : "l"(at) : "memory");
    return word;
}
static __device__ Word arrive(Word* at) {
    Word before;
    asm volatile("atom.acq_rel.gpu.global.add.u64 %0, [%1], 1;"
                 : "=l"(before)
                 : "l"(at)
                 : "memory");
    return before;
}
// From global to shared memory, while the thread goes on.
template <int BYTES> static __device__ void copy(void* to, const void* from) {
    const unsigned place = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;"
                 :
                 : "r"(place), "l"(__cvta_generic_to_global(from)), "n"(BYTES)
                 : "memory");
}
static __device__ void copied() { asm volatile("cp.async.wait_all;" : : : "memory"); }
#endif

static __device__ float* memory(int place) { return (float*)cluster_step_memory + place; }
static __device__ Quad& quad(float* at) { return *(Quad*)at; }
static __device__ int least(int a, int b) { return a < b ? a : b; }
// Blocks are those of the grid's second dimension: see `_together` in nvrtc.py. One alone is at 0.
static __device__ int row() { return (int)blockIdx.y / ACROSS; }
static __device__ int column() { return (int)blockIdx.y % ACROSS; }
// Of n things in pieces of a size, how many are in one piece.
static __device__ int within(int n, int size, int piece) {
    const int left = n - piece * size;
    return left < 0 ? 0 : least(left, size);
}
static __device__ int rows() { return within(BATCH, ROWS, row()); }
// The columns of a layer's inputs that are a block's own, and the first of them.
static __device__ int piece(int l) { return l || !TILED ? column() : row(); }
static __device__ int own(int l) { return within(SIZES[l], width(l), piece(l)); }
static __device__ int begin(int l) { return width(l) * piece(l); }
// The same of a layer's outputs; all of them of the last.
static __device__ int own_outs(int l) { return last(l) ? CLASSES : own(l + 1); }
static __device__ int begin_outs(int l) { return last(l) ? 0 : begin(l + 1); }
