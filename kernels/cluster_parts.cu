// What training steps by several blocks are made of: exchanges, products, what is read and written
// in global memory. The text comes after that of cluster_layout.cu.

// How often a block looks for what another gives, which is many seconds, before it takes the other
// for lost: an error is better than to wait for ever.
constexpr unsigned PATIENCE = 1u << 27;

// A step of training: its number, where words are, and what else it needs.
struct Step {
    Word* room;
    unsigned number;
    int parity;  // of what is copied beforehand
    float* losses;
    float* gradient;
    Wide* notes;
    __device__ Word* box(int s, int c, unsigned number) const {
        return room + HEAD + ((number % 2 * DOWN + s) * ACROSS + c) * (Wide)BOX.size;
    }
    __device__ void give(int place, float x) const {
        put(box(row(), column(), number) + place, (Word)number << 32 | __float_as_uint(x));
    }
    // A word that has been looked at already, once it is there.
    __device__ float wait(const Word* at, Word word, unsigned number) const {
        for (unsigned looks = 0; (unsigned)(word >> 32) != number; word = look(at))
            if (++looks == PATIENCE) __trap();
        return __uint_as_float((unsigned)word);
    }
};

// use(e, number at from(e)) for COUNT numbers that others give.
template <int COUNT, class From, class Use>
static __device__ void gather(const Step& step, unsigned number, From from, Use use) {
    constexpr int MANY = smaller(8, pieces(COUNT, THREADS));
    for (int first = threadIdx.x; first < COUNT; first += MANY * THREADS) {
        Word words[MANY];
#pragma unroll
        for (int u = 0; u < MANY; ++u)
            if (first + u * THREADS < COUNT) words[u] = look(from(first + u * THREADS));
#pragma unroll
        for (int u = 0; u < MANY; ++u) {
            const int e = first + u * THREADS;
            if (e < COUNT) use(e, step.wait(from(e), words[u], number));
        }
    }
}

// The sum of what so many others give, in their order.
template <int OTHERS, class From> static __device__ float total(const Step& step, From from) {
    constexpr int MANY = smaller(16, OTHERS);
    float sum = 0.0f;
    for (int first = 0; first < OTHERS; first += MANY) {
        Word words[MANY];
#pragma unroll
        for (int u = 0; u < MANY; ++u)
            if (first + u < OTHERS) words[u] = look(from(first + u));
#pragma unroll
        for (int u = 0; u < MANY; ++u)
            if (first + u < OTHERS) sum += step.wait(from(first + u), words[u], step.number);
    }
    return sum;
}

// All blocks of the grid are here, and see what any of them did before.
static __device__ void everybody(Word* room) {
    __syncthreads();
    if (BLOCKS > 1 && threadIdx.x == 0) {
        const Word all = (arrive(room + 1) / BLOCKS + 1) * BLOCKS;
        for (unsigned looks = 0; look_after(room + 1) < all;)
            if (++looks == PATIENCE) __trap();
    }
    __syncthreads();
}

// Which tile of a product a thread computes at a time: the one that takes the fewest cycles.
struct Tile { int down, across; };
static __device__ constexpr Tile tile(int n, int m) {
    Tile best{1, 1};
    int least_cost = 0;
    for (int down = 1; down <= 8; down *= 2)
        for (int across = 1; across <= 8; across *= 2) {
            int tiles = pieces(n, down) * pieces(m, across);
            int cost = pieces(tiles, THREADS) * (down * across + 2 * (down + across));
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
    constexpr int DEEP = tile(N, M).down, BROAD = tile(N, M).across;
    constexpr int HIGH = pieces(N, DEEP), LENGTH = pieces(M, BROAD);
    for (int t = threadIdx.x; t < HIGH * LENGTH; t += THREADS) {
        const int top = t / LENGTH, left = t % LENGTH;
        float sums[DEEP][BROAD];
#pragma unroll
        for (int i = 0; i < DEEP; ++i)
#pragma unroll
            for (int j = 0; j < BROAD; ++j) sums[i][j] = 0.0f;
#pragma unroll 8
        for (int k = 0; k < K; ++k) {
            float ours[DEEP], theirs[BROAD];
#pragma unroll
            for (int i = 0; i < DEEP; ++i) ours[i] = a(least(top + i * HIGH, N - 1), k);
#pragma unroll
            for (int j = 0; j < BROAD; ++j) theirs[j] = b(k, least(left + j * LENGTH, M - 1));
#pragma unroll
            for (int i = 0; i < DEEP; ++i)
#pragma unroll
                for (int j = 0; j < BROAD; ++j) sums[i][j] = fmaf(ours[i], theirs[j], sums[i][j]);
        }
#pragma unroll
        for (int i = 0; i < DEEP; ++i)
#pragma unroll
            for (int j = 0; j < BROAD; ++j)
                if (top + i * HIGH < N && left + j * LENGTH < M)
                    use(top + i * HIGH, left + j * LENGTH, sums[i][j]);
    }
}

// Tiles of the first product, of 8 * down rows and 4 * across columns a warp. Cycles of a step of
// 4 columns of x: of arithmetic, and of shared memory, whose loads of 16 bytes count as three.
static __device__ constexpr Tile first_tile() {
    Tile best{1, 1};
    int least_cost = 0;
    for (int down = 1; down <= 4; down *= 2)
        for (int across = 1; across <= 4; across *= 2) {
            const int tiles = pieces(BATCH, 8 * down) * pieces(OUTS, 4 * across);
            const int busy = smaller(tiles, WARPS), rounds = pieces(tiles, WARPS);
            const int arithmetic = pieces(busy, 4) * (4 * down * across + down + across + 8);
            const int cost = rounds * larger(arithmetic, busy * 3 * (down + across));
            if (least_cost && cost >= least_cost) continue;
            least_cost = cost;
            best = {down, across};
        }
    return best;
}

// use(i, j, sum over k of x[i, k] weights[j, k]): the block's part of the first layer's product.
// Lanes that differ in bit 1 have a row in common, those that differ in bit 0 a column: loads of 16
// bytes then take half as many cycles as of 32 places.
template <class Use> static __device__ void first_product(const float* x, const float* w, Use use) {
    constexpr int DEEP = first_tile().down, BROAD = first_tile().across;
    constexpr int LENGTH = pieces(OUTS, 4 * BROAD), TILES = pieces(BATCH, 8 * DEEP) * LENGTH;
    const int lane = threadIdx.x % 32;
    for (int t = threadIdx.x / 32; t < TILES; t += WARPS) {
        const int top = t / LENGTH * 8 * DEEP + (lane & 1 | lane >> 1 & 6);
        const int left = t % LENGTH * 4 * BROAD + (lane >> 1 & 1 | lane >> 3 & 2);
        const float *ours[DEEP], *theirs[BROAD];
        float sums[DEEP][BROAD];
#pragma unroll
        for (int i = 0; i < DEEP; ++i) ours[i] = x + least(top + 8 * i, BATCH - 1) * LONG;
#pragma unroll
        for (int j = 0; j < BROAD; ++j) theirs[j] = w + least(left + 4 * j, OUTS - 1) * LONG;
#pragma unroll
        for (int i = 0; i < DEEP; ++i)
#pragma unroll
            for (int j = 0; j < BROAD; ++j) sums[i][j] = 0.0f;
#pragma unroll 4
        for (int k = 0; k < width(0); k += 4) {
            Quad a[DEEP], b[BROAD];
#pragma unroll
            for (int i = 0; i < DEEP; ++i) a[i] = *(const Quad*)(ours[i] + k);
#pragma unroll
            for (int j = 0; j < BROAD; ++j) b[j] = *(const Quad*)(theirs[j] + k);
#pragma unroll
            for (int u = 0; u < 4; ++u)
#pragma unroll
                for (int i = 0; i < DEEP; ++i)
#pragma unroll
                    for (int j = 0; j < BROAD; ++j)
                        sums[i][j] = fmaf(a[i].at[u], b[j].at[u], sums[i][j]);
        }
#pragma unroll
        for (int i = 0; i < DEEP; ++i)
#pragma unroll
            for (int j = 0; j < BROAD; ++j)
                if (top + 8 * i < BATCH && left + 4 * j < OUTS)
                    use(top + 8 * i, left + 4 * j, sums[i][j]);
    }
}

// One parameter and its moments, `apart` floats from one another.
static __device__ void update(float* p, int apart, float g, const float* numbers) {
    float results[1 + STATES];
    updated(results, p, apart, g, numbers);
#pragma unroll
    for (int s = 0; s <= STATES; ++s) p[s * apart] = results[s];
}

// Parameters and their moments in global memory, each flat.
struct Flat {
    float *p, *first, *second;
    __device__ float* of(int state) const { return state == 0 ? p : state == 1 ? first : second; }
};

// Where one of the common parameters is in the flat ones; less than 0 for one that is beyond them.
static __device__ Wide home(int e) {
#pragma unroll
    for (int l = FIRST; l < LAYERS; ++l) {
        const int many = width(l) * stride(l), i = e / stride(l), j = e % stride(l);
        if (e < many)
            return i < own(l) && j < SIZES[l + 1]
                       ? OFFSETS[2 * l] + (Wide)(begin(l) + i) * SIZES[l + 1] + j
                       : -1;
        e -= many;
    }
#pragma unroll
    for (int l = 0; l < LAYERS; ++l) {
        if (e < biases(l)) return e < own_outs(l) ? OFFSETS[2 * l + 1] + begin_outs(l) + e : -1;
        e -= biases(l);
    }
    return -1;
}
// Whether others have a common parameter too, and it is theirs to write it.
static __device__ bool left(int e) { return e >= COMMON.bias[LAYERS - 1] && column() > 0; }

static __device__ Wide home_of_first(int k, int j) {
    return OFFSETS[0] + (Wide)(begin(0) + k) * SIZES[1] + begin_outs(0) + j;
}

// Parameters and moments from global memory. What is beyond a layer's inputs or outputs stays zero.
static __device__ void fetch(const Flat& flat) {
    for (int s = 0; s <= STATES; ++s) {
        const float* from = flat.of(s);
        for (int e = threadIdx.x; e < SHARE; e += THREADS) {
            const int mine = row() * SHARE + e;
            const Wide place = mine < COMMON.size ? home(mine) : -1;
            if (place >= 0) memory(AT.share)[s * SHARE + e] = from[place];
        }
        if constexpr (TILED) {
            const int inputs = own(0), outs = own_outs(0);
            for (int e = threadIdx.x; e < inputs * OUTS; e += THREADS)
                if (e % OUTS < outs)
                    memory(AT.weights)[(s * OUTS + e % OUTS) * LONG + e / OUTS] =
                        from[home_of_first(e / OUTS, e % OUTS)];
        }
    }
    if constexpr (DOWN > 1)
        for (int e = threadIdx.x; e < COMMON.size; e += THREADS) {
            const Wide place = home(e);
            if (place >= 0) memory(AT.common)[e] = flat.p[place];
        }
}

static __device__ void store(const Flat& flat) {
    for (int s = 0; s <= STATES; ++s) {
        float* to = flat.of(s);
        for (int e = threadIdx.x; e < SHARE; e += THREADS) {
            const int mine = row() * SHARE + e;
            const Wide place = mine < COMMON.size && !left(mine) ? home(mine) : -1;
            if (place >= 0) to[place] = memory(AT.share)[s * SHARE + e];
        }
        if constexpr (TILED) {
            const int inputs = own(0), outs = own_outs(0);
            for (int e = threadIdx.x; e < inputs * OUTS; e += THREADS)
                if (e % OUTS < outs)
                    to[home_of_first(e / OUTS, e % OUTS)] =
                        memory(AT.weights)[(s * OUTS + e % OUTS) * LONG + e / OUTS];
        }
    }
}

// What is read beforehand of the steps' batches.
struct Batches {
    const float* x;
    const Wide *classes, *order;
    const float* scalars;
    Wide n, x_apart, classes_apart, scalars_apart;
    int steps;

    static __device__ Wide* places(int t) { return (Wide*)memory(AT.order) + t % 3 * BESIDE; }
    static __device__ const Wide* targets(int t) {
        return (const Wide*)memory(AT.targets) + t % 2 * ROWS;
    }
    static __device__ float* rows_of(int t) { return memory(AT.x) + t % 2 * BESIDE * LONG; }
    static __device__ const float* numbers(int t) { return memory(AT.numbers) + t % 2 * SCALARS; }

    // The rows that `order` names for a step; simply the next if there is none.
    __device__ void bring_order(int t) const {
        if (t >= steps) return;
        const int first = TILED ? 0 : row() * ROWS, many = TILED ? BATCH : rows();
        for (int i = threadIdx.x; i < many; i += THREADS)
            if (order)
                copy<8>(places(t) + i, order + (Wide)t * BATCH + first + i);
            else
                places(t)[i] = first + i;
    }
    // One of them: from the end if negative, and less than 0 if there is no such row.
    __device__ Wide place(int t, int i) const {
        const Wide at = places(t)[i];
        return at < 0 ? at + n : at < n ? at : -1;
    }
    // The step's columns of its rows that are the block's, classes, and the optimizer's numbers. A
    // row that is out of range reads as NaN, and has the class -1.
    __device__ void bring(int t) const {
        if (t >= steps) return;
        const float* from = x + t * x_apart + begin(0);
        const int many = TILED ? BATCH : rows(), inputs = own(0);
        float* to = rows_of(t);
        if (SIZES[0] % 4 == 0 && ((Wide)from & 15) == 0) {
            for (int e = threadIdx.x; e < many * (width(0) / 4); e += THREADS) {
                const int i = e / (width(0) / 4), k = e % (width(0) / 4) * 4;
                const Wide at = place(t, i);
                if (k >= inputs) continue;
                if (at >= 0)
                    copy<16>(to + i * LONG + k, from + at * SIZES[0] + k);
                else
                    quad(to + i * LONG + k) = {nanf(""), nanf(""), nanf(""), nanf("")};
            }
        } else {
            for (int e = threadIdx.x; e < many * width(0); e += THREADS) {
                const int i = e / width(0), k = e % width(0);
                const Wide at = place(t, i);
                if (k >= inputs) continue;
                if (at >= 0)
                    copy<4>(to + i * LONG + k, from + at * SIZES[0] + k);
                else
                    to[i * LONG + k] = nanf("");
            }
        }
        Wide* targets = (Wide*)memory(AT.targets) + t % 2 * ROWS;
        for (int i = threadIdx.x; i < rows(); i += THREADS) {
            const Wide at = place(t, TILED ? row() * ROWS + i : i);
            if (at >= 0)
                copy<8>(targets + i, classes + t * classes_apart + at);
            else
                targets[i] = -1;
        }
        for (int i = threadIdx.x; i < SCALARS; i += THREADS)
            copy<4>(memory(AT.numbers) + t % 2 * SCALARS + i, scalars + t * scalars_apart + i);
        bring_order(t + 1);
    }
};

// The common parameters, as they were updated in the step before.
static __device__ void bring_common(const Step& step) {
    constexpr int P = BOX.share, C = AT.common;
    const unsigned before = step.number - 1;
    gather<COMMON.size>(
        step, before,
        [&](int e) { return step.box(e / SHARE, column(), before) + P + e % SHARE; },
        [&](int e, float one) { memory(C)[e] = one; });
}
