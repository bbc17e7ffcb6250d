// Training steps by several blocks: each layer forward and backward, and the updates. The text
// comes after those of cluster_layout.cu and cluster_parts.cu.

// What comes of an element of a layer's product: its logits, or the next layer's inputs.
template <int L> static __device__ void finish(int i, int j, float sum) {
    constexpr int B = AT.common + COMMON.bias[L], Z = AT.logits;
    const bool there = i < rows() && j < own_outs(L);
    const float z = there ? sum + memory(B)[j] : 0.0f;
    if constexpr (last(L)) {
        if (j < CLASSES) memory(Z)[i * CLASSES + j] = z;
    } else {
        constexpr int Y = AT.inputs[L + 1] , KEPT = AT.outputs[L + 1];
        const float y = there ? value(z) : 0.0f;
        memory(Y)[i * width(L + 1) + j] = y;
        memory(KEPT)[i * width(L + 1) + j] = KEEPS_INPUT ? z : y;
    }
}

// The first layer if TILED, from x to the next layer's inputs.
static __device__ void forward_first(const Step& step, const Batches& batches, int t) {
    constexpr int P = BOX.products[0];
    first_product(Batches::rows_of(t), memory(AT.weights), [&](int i, int j, float sum) {
        if constexpr (DOWN > 1)
            step.give(P + i * OUTS + j, sum);
        else
            finish<0>(i, j, sum);
    });
    batches.bring(t + 1);
    if constexpr (DOWN > 1) {
        if (t > 0) bring_common(step);
        __syncthreads();  // COMMON
        for (int e = threadIdx.x; e < ROWS * OUTS; e += THREADS) {
            const int place = P + row() * ROWS * OUTS + e;
            const bool there = e / OUTS < rows();
            finish<0>(e / OUTS, e % OUTS, there ? total<DOWN>(step, [&](int s) {
                return step.box(s, column(), step.number) + place;
            }) : 0.0f);
        }
    }
    __syncthreads();
}

// Other layers, up to the logits.
template <int L> static __device__ void forward(const Step& step, int t) {
    if constexpr (L < LAYERS) {
        constexpr int OUT = SIZES[L + 1], NEXT = last(L) ? OUT : width(L + 1), P = BOX.products[L];
        constexpr int A = AT.inputs[L], W = AT.common + COMMON.weights[L], LD = L ? width(L) : LONG;
        const float *a = L ? memory(A) : Batches::rows_of(t), *w = memory(W);
        product<ROWS, OUT, width(L)>(
            [=](int i, int k) { return a[i * LD + k]; },
            [=](int k, int j) { return w[k * stride(L) + j]; },
            [&](int i, int j, float sum) {
                if constexpr (ACROSS > 1)
                    step.give(P + i * OUT + j, sum);
                else
                    finish<L>(i, j, sum);
            });
        if constexpr (ACROSS > 1)
            for (int e = threadIdx.x; e < ROWS * NEXT; e += THREADS) {
                const int i = e / NEXT, j = e % NEXT, place = P + i * OUT + begin_outs(L) + j;
                const bool there = j < own_outs(L);
                finish<L>(i, j, there ? total<ACROSS>(step, [&](int c) {
                    return step.box(row(), c, step.number) + place;
                }) : 0.0f);
            }
        __syncthreads();  // FORWARD
        forward<L + 1>(step, t);
    }
}

// Cross-entropy of a block's rows, and its gradient with respect to their logits: each thread looks
// at all logits of its row. A class out of range is told in `notes`, unless one has been, as
// 1 + 2^32 row + its last 32 bits.
static __device__ void loss(const Step& step, const Batches& batches, int t) {
    constexpr int G = AT.slopes[LAYERS - 1], LD = slopes(LAYERS - 1);
    for (int e = threadIdx.x; e < rows() * CLASSES; e += THREADS) {
        const int i = e / CLASSES, j = e % CLASSES;
        const float* z = memory(AT.logits) + i * CLASSES;
        const Wide target = Batches::targets(t)[i];
        const bool known = target >= 0 && target < CLASSES;
        float most = z[0], sum = 0.0f;
#pragma unroll 16
        for (int k = 1; k < CLASSES; ++k) most = z[k] > most ? z[k] : most;
#pragma unroll 16
        for (int k = 0; k < CLASSES; ++k) sum += expf(z[k] - most);
        memory(G)[i * LD + j] = (expf(z[j] - most) / sum - (j == target ? 1.0f : 0.0f)) / BATCH;
        if (j) continue;
        memory(AT.losses)[i] = known ? logf(sum) - (z[target] - most) : nanf("");
        const int place = row() * ROWS + i;
        if (!known && column() == 0 && step.notes && *step.notes == 0 &&
            batches.place(t, TILED ? place : i) >= 0)
            *step.notes = ((Wide)place << 32) + (target & 0xFFFFFFFFLL) + 1;
    }
    __syncthreads();  // LOSS
}

// From the gradient of a layer's product to that of the layer's below.
template <int L> static __device__ void backward(const Step& step) {
    if constexpr (L > 0) {
        constexpr int OUT = SIZES[L + 1], W = AT.common + COMMON.weights[L], G = AT.slopes[L];
        constexpr int KEPT = AT.outputs[L], BELOW = AT.slopes[L - 1], P = BOX.slopes[L - 1];
        constexpr bool TO_COLUMN = TILED && L == 1, TO_ROW = !TO_COLUMN && ACROSS > 1;
        const float *g = memory(G), *w = memory(W), *kept = memory(KEPT);
        float* below = memory(BELOW);
        const int many = rows(), inputs = own(L);
        product<ROWS, width(L), OUT>(
            [=](int i, int k) { return g[i * OUT + k]; },
            [=](int k, int j) { return w[j * stride(L) + k]; },
            [&](int i, int j, float da) {
                const bool there = i < many && j < inputs;
                const float dz = there ? da * slope(kept[i * width(L) + j]) : 0.0f;
                if constexpr (TO_COLUMN) {
                    if (i < many) below[i * OUTS + j] = dz;
                    if (DOWN > 1) step.give(P + i * OUTS + j, dz);
                } else if constexpr (TO_ROW) {
                    step.give(P + i * width(L) + j, dz);
                } else if (there) {
                    below[i * SIZES[L] + j] = dz;
                }
            });
        if constexpr (TO_ROW)
            gather<ROWS * SIZES[L]>(
                step, step.number,
                [&](int e) {
                    const int i = e / SIZES[L], j = e % SIZES[L];
                    return step.box(row(), j / width(L), step.number) + P + i * width(L) +
                           j % width(L);
                },
                [&](int e, float x) { below[e] = x; });
        __syncthreads();  // BACKWARD
        backward<L - 1>(step);
    }
}

// The update of a common parameter from the gradient of all rows, or the sum of their losses.
static __device__ void settle(const Step& step, int e, float g, const float* numbers) {
    const int mine = e - row() * SHARE;
    float* p = memory(AT.share) + mine;
    const Wide place = home(e);
    if (e == COMMON.loss && column() == 0) *step.losses = g / BATCH;
    if (place >= 0) {
        if (step.gradient && !left(e)) step.gradient[place] = g;
        update(p, SHARE, g, numbers);
    }
    if constexpr (DOWN > 1) {
        constexpr int P = BOX.share;
        step.give(P + mine, *p);
    }
}

// A block's rows' part of the common parameters' gradient, and of the loss.
template <int L, class Use> static __device__ void sums_of_rows(int t, Use use) {
    if constexpr (L < LAYERS) {
        constexpr int A = AT.inputs[L], G = AT.slopes[L], LD = L ? width(L) : LONG;
        constexpr int BIAS = COMMON.bias[L], W = COMMON.weights[L];
        const float *a = L ? memory(A) : Batches::rows_of(t), *g = memory(G);
        const int first = L || !TILED ? begin_outs(L) : 0, outs = own_outs(L);
        if constexpr (L >= FIRST)
            product<width(L), SIZES[L + 1], ROWS>(
                [=](int i, int k) { return a[k * LD + i]; },
                [=](int k, int j) { return g[k * slopes(L) + j]; },
                [&](int i, int j, float sum) { use(W + i * stride(L) + j, sum); });
        for (int j = THREADS - 1 - threadIdx.x; j < outs; j += THREADS) {
            float sum = 0.0f;
#pragma unroll 8
            for (int i = 0; i < ROWS; ++i) sum += g[i * slopes(L) + first + j];
            use(BIAS + j, sum);
        }
        if (last(L) && threadIdx.x == 0) {
            float sum = 0.0f;
#pragma unroll 8
            for (int i = 0; i < ROWS; ++i) sum += memory(AT.losses)[i];
            use(COMMON.loss, sum);
        }
        sums_of_rows<L + 1>(t, use);
    }
}

// The gradient of the block's tile of the first weights, and their update.
static __device__ void update_first(const Step& step, int t) {
    constexpr int QUADS = width(0) / 4, BROAD = OUTS / 4, DEEP = CUT.deep;
    constexpr int HIGH = pieces(QUADS, DEEP), PARTS = AT.parts, G = AT.gradient;
    const float *x = Batches::rows_of(t), *g = memory(G);
    for (int e = threadIdx.x; e < CUT.tiles * CUT.groups; e += THREADS) {
        const int group = e / CUT.tiles, j = e % CUT.tiles / HIGH, top = e % CUT.tiles % HIGH;
        float sums[DEEP][4][4];
#pragma unroll
        for (int i = 0; i < 16 * DEEP; ++i) sums[i / 16][i / 4 % 4][i % 4] = 0.0f;
        const int end = least(BATCH, (group + 1) * CUT.rows);
#pragma unroll 4
        for (int i = group * CUT.rows; i < end; ++i) {
            const Quad theirs = *(const Quad*)(g + i * OUTS + 4 * j);
#pragma unroll
            for (int d = 0; d < DEEP; ++d) {
                const int k = 4 * least(top + d * HIGH, QUADS - 1);
                const Quad ours = *(const Quad*)(x + i * LONG + k);
#pragma unroll
                for (int u = 0; u < 4; ++u)
#pragma unroll
                    for (int v = 0; v < 4; ++v)
                        sums[d][u][v] = fmaf(theirs.at[u], ours.at[v], sums[d][u][v]);
            }
        }
#pragma unroll
        for (int d = 0; d < DEEP; ++d)
#pragma unroll
            for (int u = 0; u < 4; ++u)
                if (const int k = top + d * HIGH; k < QUADS)
                    quad(memory(PARTS) + ((group * OUTS + 4 * j + u) * QUADS + k) * 4) =
                        {sums[d][u][0], sums[d][u][1], sums[d][u][2], sums[d][u][3]};
    }
    __syncthreads();  // PARTS
    const int inputs = own(0), outs = own_outs(0);
    float numbers[SCALARS];
    for (int i = 0; i < SCALARS; ++i) numbers[i] = Batches::numbers(t)[i];
    for (int e = threadIdx.x; e < OUTS * QUADS; e += THREADS) {
        const int j = e / QUADS, k = e % QUADS * 4;
        Quad sum = quad(memory(PARTS) + 4 * e);
#pragma unroll
        for (int group = 1; group < CUT.groups; ++group) {
            const Quad more = quad(memory(PARTS) + 4 * (group * OUTS * QUADS + e));
#pragma unroll
            for (int u = 0; u < 4; ++u) sum.at[u] += more.at[u];
        }
        if (j >= outs) continue;
        float* p = memory(AT.weights) + j * LONG + k;
        Quad all[1 + STATES];
#pragma unroll
        for (int s = 0; s <= STATES; ++s) all[s] = quad(p + s * OUTS * LONG);
#pragma unroll
        for (int u = 0; u < 4; ++u) {
            if (k + u >= inputs) continue;
            if (step.gradient) step.gradient[home_of_first(k + u, j)] = sum.at[u];
            float before[1 + STATES], after[1 + STATES];
            for (int s = 0; s <= STATES; ++s) before[s] = all[s].at[u];
            updated(after, before, 1, sum.at[u], numbers);
            for (int s = 0; s <= STATES; ++s) all[s].at[u] = after[s];
        }
#pragma unroll
        for (int s = 0; s <= STATES; ++s) quad(p + s * OUTS * LONG) = all[s];
    }
}

// `steps` steps. Each has its own rows of x (n, SIZES[0]) and classes (n,), so many elements after
// those of the step before; with `order` (steps, BATCH), the rows that it names instead. The
// optimizer's numbers of a step are at `scalars`, as many apart; its loss, the mean of its rows,
// goes to `losses`. Parameters p and their moments are changed in place, and the last step's
// gradient is written where one is wanted. A class that is out of range has the loss NaN, and is
// told in `notes` where they are given. Blocks exchange in `room`, of ROOM_WORDS words, that were
// zero before the first launch and are left as they are between launches; one block needs none.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    cluster_step(const float* x, const Wide* classes, const Wide* order, const float* scalars,
                 float* p, float* first, float* second, float* gradient, float* losses,
                 Wide* notes, Word* room, Wide n, Wide x_apart, Wide classes_apart,
                 Wide scalars_apart, Wide losses_apart, int steps) {
    const Flat flat{p, first, second};
    const Batches batches{x,       classes,       order,         scalars, n,
                          x_apart, classes_apart, scalars_apart, steps};
    const unsigned before = BLOCKS > 1 ? (unsigned)look(room) : 0;
    for (int i = threadIdx.x; i < AT.end / 4; i += THREADS) quad(memory(4 * i)) = {0, 0, 0, 0};
    __syncthreads();
    fetch(flat);
    batches.bring_order(0);
    copied();
    __syncthreads();
    batches.bring(0);
    for (int t = 0; t < steps; ++t) {
        const Step step{room, before + t + 1, t % 2, losses + t * losses_apart,
                        t == steps - 1 ? gradient : nullptr, notes};
        copied();
        __syncthreads();  // the batch is there, and the weights are the new ones
        if constexpr (TILED) forward_first(step, batches, t);
        if constexpr (!TILED && DOWN > 1) {
            if (t > 0) bring_common(step);
            __syncthreads();
        }
        forward<FIRST>(step, t);
        loss(step, batches, t);
        if constexpr (TILED && LAYERS == 1 && DOWN > 1) {
            constexpr int P = BOX.slopes[0];
            for (int e = threadIdx.x; e < ROWS * OUTS; e += THREADS)
                step.give(P + e, memory(AT.slopes[0])[e]);
        }
        backward<LAYERS - 1>(step);
        const float* numbers = Batches::numbers(t);
        sums_of_rows<0>(t, [&](int e, float sum) {
            if constexpr (DOWN > 1) {
                constexpr int P = BOX.sums;
                step.give(P + e, sum);
            } else {
                settle(step, e, sum, numbers);
            }
        });
        if constexpr (!TILED) batches.bring(t + 1);
        if constexpr (TILED && DOWN > 1) {
            gather<BATCH * OUTS>(
                step, step.number,
                [&](int e) {
                    constexpr int P = BOX.slopes[0];
                    constexpr int EACH = ROWS * OUTS;
                    return step.box(e / EACH, column(), step.number) + P + e % EACH;
                },
                [&](int e, float one) { memory(AT.gradient)[e] = one; });
            __syncthreads();  // GATHERED
        }
        if constexpr (DOWN > 1)
            // The last threads: they have the least to do afterwards.
            for (int e = THREADS - 1 - threadIdx.x; e < SHARE; e += THREADS) {
                constexpr int P = BOX.sums;
                const int mine = row() * SHARE + e;
                if (mine >= COMMON.size) continue;
                const bool there = mine == COMMON.loss || home(mine) >= 0;
                settle(step, mine, there ? total<DOWN>(step, [&](int s) {
                    return step.box(s, column(), step.number) + P + mine;
                }) : 0.0f, numbers);
            }
        if constexpr (TILED) update_first(step, t);
    }
    everybody(room);  // what they read beforehand, they have
    store(flat);
    if (BLOCKS > 1 && blockIdx.y == 0 && threadIdx.x == 0) put(room, before + steps);
}
