// CUDA C++ on the CPU: a thread for each thread of a block. The blocks of a cluster run at the same
// time, each with shared memory of its own, which the others reach by plain pointers; clusters, and
// blocks that are in none, run one after another.
//
// A matrix of the tensor cores is lane 0's alone: the other lanes' part of it would need their
// registers, and which element they hold is unspecified, so kernels here may not ask. What lane 0
// reads and writes the sanitizers see. Warps know no lockstep: a missing __syncwarp is a race.
#pragma once
#include <pthread.h>
#include <cmath>
#include <cstdint>
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
#define __cluster_dims__(...)

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
// Dynamic shared memory, poisoned beyond what a launch asks for, and with NaN in what it gets.
constexpr size_t SHARED = 227 * 1024;
struct Block {
    Barrier all;
    Barrier* cluster;
    Block* const* blocks;  // of the cluster
    int rank, count;
    std::vector<std::unique_ptr<Barrier>> warps;
    alignas(128) unsigned char memory[SHARED];
    Block(int threads, size_t bytes) : all(threads) {
        for (int i = 0; i < threads / 32; ++i) warps.push_back(std::make_unique<Barrier>(32));
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
inline thread_local unsigned met_all, met_warp, met_cluster;
#define fused_mlp_memory (block->memory)
#define cluster_step_memory (block->memory)
inline void __syncthreads() { block->all.meet(met_all); }
inline void __syncwarp() { block->warps[threadIdx.x / 32]->meet(met_warp); }

inline uint32_t bits_of(float x) { uint32_t b; std::memcpy(&b, &x, 4); return b; }
inline float float_of(uint32_t b) { float x; std::memcpy(&x, &b, 4); return x; }

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
inline float widened(const __half& x) { return __half2float(x); }
inline float widened(const __nv_bfloat16& x) { return __bfloat162float(x); }
inline float widened(float x) { return x; }

namespace nvcuda::wmma {
struct accumulator; struct matrix_a; struct matrix_b;
struct row_major; struct col_major;
enum layout_t { mem_row_major, mem_col_major };
template <class Use, int M, int N, int K, class T, class Layout = row_major> struct fragment {
    static constexpr bool turned = std::is_same_v<Layout, col_major>;
    float at[16][16];
};
inline bool idle() { return threadIdx.x % 32 != 0; }
template <class F> void fill_fragment(F& f, float x) {
    if (idle()) return;
    for (auto& row : f.at) for (float& one : row) one = x;
}
template <class F, class T> void load_matrix_sync(F& f, const T* p, unsigned ld) {
    if (idle()) return;
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j) (F::turned ? f.at[j][i] : f.at[i][j]) = widened(p[i * ld + j]);
}
template <class F> void load_matrix_sync(F& f, const float* p, unsigned ld, layout_t) {
    load_matrix_sync(f, p, ld);
}
template <class F> void store_matrix_sync(float* p, const F& f, unsigned ld, layout_t) {
    if (idle()) return;
    for (int i = 0; i < 16; ++i) for (int j = 0; j < 16; ++j) p[i * ld + j] = f.at[i][j];
}
template <class D, class A, class B> void mma_sync(D& d, const A& a, const B& b, const D& c) {
    if (idle()) return;
    for (int i = 0; i < 16; ++i) {
        float row[16];
        for (int j = 0; j < 16; ++j) row[j] = c.at[i][j];
        for (int k = 0; k < 16; ++k) for (int j = 0; j < 16; ++j) row[j] += a.at[i][k] * b.at[k][j];
        for (int j = 0; j < 16; ++j) d.at[i][j] = row[j];
    }
}
}  // namespace nvcuda::wmma

template <class Kernel>
void launch(int blocks, int threads, size_t bytes, int cluster, Kernel kernel) {
    for (int first = 0; first < blocks; first += cluster) {
        Barrier everyone(cluster * threads);
        std::vector<std::unique_ptr<Block>> owned;
        std::vector<Block*> all;
        for (int b = 0; b < cluster; ++b) {
            owned.push_back(std::make_unique<Block>(threads, bytes));
            all.push_back(owned.back().get());
            all[b]->cluster = &everyone, all[b]->rank = b, all[b]->count = cluster;
        }
        for (Block* one : all) one->blocks = all.data();
        std::vector<std::thread> crew;
        for (int t = 0; t < cluster * threads; ++t)
            crew.emplace_back([&, t] {
                block = all[t / threads];
                threadIdx = {unsigned(t % threads), 0, 0};
                blockIdx = {unsigned(first + t / threads), 0, 0};
                gridDim = {unsigned(blocks), 1, 1}, blockDim = {unsigned(threads), 1, 1};
                kernel();
            });
        for (auto& one : crew) one.join();
    }
}
