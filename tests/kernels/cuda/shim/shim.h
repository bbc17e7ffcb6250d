// CUDA C++ on the CPU: a thread for each thread of a block. Blocks that wait for one another run at
// the same time, each with shared memory of its own; others run one after another.
//
// The lanes of a warp exchange what instructions of the tensor cores take from one another by relaxed
// atomics, which order nothing else: warps know no lockstep, and a missing __syncwarp is a race.
#pragma once
#include <pthread.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#define __global__
#define __device__
#define __launch_bounds__(...)

struct Index { unsigned x, y, z; };
inline thread_local Index threadIdx, blockIdx, gridDim, blockDim;

// ThreadSanitizer knows pthread's barriers, and orders by them only those who meet there:
// std::barrier's waiting threads share a counter too, which hides races. Every other meeting is at
// another one, so that who leaves late is not ordered after who is back already.
struct Barrier {
    pthread_barrier_t two[2];
    explicit Barrier(unsigned n) { for (auto& one : two) pthread_barrier_init(&one, nullptr, n); }
    ~Barrier() { for (auto& one : two) pthread_barrier_destroy(&one); }
    void meet(unsigned& met) { pthread_barrier_wait(&two[met++ % 2]); }
};
// What the lanes of a warp give one another in an instruction: words with the instruction's number,
// for two instructions by turns. They wait for one another by a bare futex, which the sanitizers do
// not know.
struct Exchange {
    std::atomic<uint64_t> words[2][32][6]{};
    std::atomic<uint32_t> here{0}, turn{0};
    void meet() {
        const uint32_t now = turn.load(std::memory_order_relaxed);
        if (here.fetch_add(1, std::memory_order_relaxed) == 31) {
            here.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_relaxed);
            syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 32, nullptr, nullptr, 0);
        } else {
            while (turn.load(std::memory_order_relaxed) == now)
                syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, now, nullptr, nullptr, 0);
        }
    }
};
// Dynamic shared memory, poisoned beyond what a launch asks for, and with NaN in what it gets.
constexpr size_t SHARED = 227 * 1024;
struct Block {
    Barrier all;
    std::vector<std::unique_ptr<Barrier>> warps;
    std::vector<std::unique_ptr<Exchange>> exchanges;
    alignas(128) unsigned char memory[SHARED];
    Block(int threads, size_t bytes) : all(threads) {
        for (int i = 0; i < threads / 32; ++i) {
            warps.push_back(std::make_unique<Barrier>(32));
            exchanges.push_back(std::make_unique<Exchange>());
        }
        std::memset(memory, 0xff, bytes);
#if defined(__SANITIZE_ADDRESS__)
        __asan_poison_memory_region(memory + bytes, SHARED - bytes);
#endif
    }
    ~Block() {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(memory, SHARED);
#endif
    }
};
inline thread_local Block* block;
inline thread_local unsigned met_all, met_warp;
#define fused_mlp_memory (block->memory)
#define cluster_step_memory (block->memory)
inline void __syncthreads() { block->all.meet(met_all); }
inline void __syncwarp() { block->warps[threadIdx.x / 32]->meet(met_warp); }

inline uint32_t bits_of(float x) { uint32_t b; std::memcpy(&b, &x, 4); return b; }
inline float float_of(uint32_t b) { float x; std::memcpy(&x, &b, 4); return x; }

inline uint32_t __float_as_uint(float x) { return bits_of(x); }
inline float __uint_as_float(uint32_t b) { return float_of(b); }

// Words that blocks exchange: read and written at once, and ordered with nothing else. Who waits for
// one lets other threads run.
inline uint64_t look(const unsigned long long* at) {
    thread_local unsigned looked = 0;
    if (++looked % 4 == 0) std::this_thread::yield();
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
inline void put(unsigned long long* at, uint64_t word) { __atomic_store_n(at, word, __ATOMIC_RELAXED); }
inline uint64_t look_after(const unsigned long long* at) {
    std::this_thread::yield();
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
[[noreturn]] inline void __trap() { std::abort(); }
inline uint64_t arrive(unsigned long long* at) { return __atomic_fetch_add(at, 1, __ATOMIC_ACQ_REL); }
template <int BYTES> void copy(void* to, const void* from) { std::memcpy(to, from, BYTES); }
inline void copied() {}

// Copied by its bits: GCC tells ThreadSanitizer nothing of whole structures passed by value.
template <int Kind> struct Bits {
    uint16_t bits;
    Bits() = default;
    Bits(uint16_t b) : bits(b) {}
    Bits(const Bits& other) : bits(other.bits) {}
    Bits& operator=(const Bits& other) { bits = other.bits; return *this; }
};
using __nv_bfloat16 = Bits<0>;
using __half = Bits<1>;
inline float __bfloat162float(const __nv_bfloat16& x) { return float_of(uint32_t(x.bits) << 16); }
inline __nv_bfloat16 __float2bfloat16(float x) {
    uint32_t b = bits_of(x);
    if (x != x) return {0x7fff};
    return {uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16)};  // to nearest, ties to even
}

inline float __half2float(const __half& h) {
    uint32_t sign = uint32_t(h.bits & 0x8000) << 16, rest = h.bits & 0x7fff;
    if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest < 0x400) return (sign ? -1.0f : 1.0f) * float(rest) * 0x1p-24f;  // subnormal
    return float_of(sign | (rest + (112 << 10)) << 13);
}
inline __half __float2half(float x) {
    uint32_t b = bits_of(x), sign = b >> 16 & 0x8000, rest = b & 0x7fffffff;
    if (rest > 0x7f800000) return {0x7fff};
    if (rest >= 0x477ff000) return {uint16_t(sign | 0x7c00)};  // 65520 and more: inf
    if (rest < 0x38800000) {  // subnormal: adding 1/2 leaves multiples of 2^-24 in the last bits
        return {uint16_t(sign | (bits_of(float_of(rest) + 0.5f) - 0x3f000000))};
    }
    return {uint16_t(sign | ((rest + 0xfff + (rest >> 13 & 1)) >> 13) - (112 << 10))};
}

// The instructions of the tensor cores: see the kernels' own.
template <bool BFloat16> float widened_as(uint16_t x) {
    return BFloat16 ? __bfloat162float({x}) : __half2float({x});
}
template <bool BFloat16> uint32_t packed_as(float low, float high) {
    auto rounded = [](float x) -> uint32_t {
        return BFloat16 ? __float2bfloat16(x).bits : __float2half(x).bits;
    };
    return rounded(low) | rounded(high) << 16;
}
inline thread_local uint64_t instruction;
// What every lane of the warp has given; all of them must come to the same instructions.
template <int Words> struct Given {
    uint32_t of[32][Words];
    explicit Given(const uint32_t (&mine)[Words]) {
        Exchange& exchange = *block->exchanges[threadIdx.x / 32];
        auto& all = exchange.words[++instruction % 2];
        for (int i = 0; i < Words; ++i)
            all[threadIdx.x % 32][i].store(instruction << 32 | mine[i], std::memory_order_relaxed);
        exchange.meet();
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < Words; ++i) {
                uint64_t word;
                while ((word = all[lane][i].load(std::memory_order_relaxed)) >> 32 != instruction) {
                }
                of[lane][i] = uint32_t(word);
            }
    }
};
// Element (row, column) of the tile of 8 by 8 whose rows are given from a lane on.
inline uint32_t element_at(const Given<1>& rows, int tile, int row, int column) {
    return *reinterpret_cast<const uint16_t*>(block->memory + rows.of[8 * tile + row][0] +
                                              2 * column);
}
inline Given<1> rows_of(const uint16_t* row) {
    return Given<1>({uint32_t(reinterpret_cast<const unsigned char*>(row) - block->memory)});
}
inline void tiles_at(uint32_t* to, const uint16_t* row) {
    const Given<1> rows = rows_of(row);
    const int lane = threadIdx.x % 32, column = lane % 4 * 2;
    for (int t = 0; t < 4; ++t)
        to[t] = element_at(rows, t, lane / 4, column) |
                element_at(rows, t, lane / 4, column + 1) << 16;
}
inline void turned_tiles_at(uint32_t* to, const uint16_t* row) {
    const Given<1> rows = rows_of(row);
    const int lane = threadIdx.x % 32, column = lane % 4 * 2;
    for (int t = 0; t < 4; ++t)
        to[t] = element_at(rows, t, column, lane / 4) |
                element_at(rows, t, column + 1, lane / 4) << 16;
}
inline uint32_t turned(uint32_t tile) {
    const Given<1> given({tile});
    const int lane = threadIdx.x % 32, column = lane / 4;
    auto at = [&](int row) {
        return given.of[4 * row + column / 2][0] >> 16 * (column % 2) & 0xffff;
    };
    return at(lane % 4 * 2) | at(lane % 4 * 2 + 1) << 16;
}
template <bool BFloat16>
void multiply_tiles_of(float* sums, const uint32_t* a, uint32_t b0, uint32_t b1) {
    const Given<6> given({a[0], a[1], a[2], a[3], b0, b1});
    const int lane = threadIdx.x % 32;
    auto half = [](uint32_t both, int i) { return widened_as<BFloat16>(uint16_t(both >> 16 * i)); };
    for (int e = 0; e < 4; ++e) {
        const int row = lane / 4, column = lane % 4 * 2 + e % 2;
        for (int k = 0; k < 16; ++k)
            sums[e] += half(given.of[4 * row + k % 8 / 2][k / 8 * 2 + e / 2], k % 2) *
                       half(given.of[4 * column + k % 8 / 2][4 + k / 8], k % 2);
    }
}

template <class Kernel>
void launch(int blocks, int threads, size_t bytes, int cluster, Kernel kernel) {
    for (int first = 0; first < blocks; first += cluster) {
        std::vector<std::unique_ptr<Block>> owned;
        std::vector<Block*> all;
        for (int b = 0; b < cluster; ++b) {
            owned.push_back(std::make_unique<Block>(threads, bytes));
            all.push_back(owned.back().get());
        }
        std::vector<std::thread> crew;
        for (int t = 0; t < cluster * threads; ++t)
            crew.emplace_back([&, t] {
                block = all[t / threads], instruction = 0;
                threadIdx = {unsigned(t % threads), 0, 0};
                // As they are launched: those that run together in the second dimension.
                const unsigned b = first + t / threads, all_of = blocks;
                blockIdx = cluster > 1 ? Index{0, b, 0} : Index{b, 0, 0};
                gridDim = cluster > 1 ? Index{1, all_of, 1} : Index{all_of, 1, 1};
                blockDim = {unsigned(threads), 1, 1};
                kernel();
            });
        for (auto& one : crew) one.join();
    }
}
