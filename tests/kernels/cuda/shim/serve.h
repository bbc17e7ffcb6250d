// Runs launches that come by standard input, and answers with the arrays after each.
//
// A launch: which text, which kernel, blocks, threads, bytes of shared memory, n, inputs, outputs,
// depth, then for each pointer its size in bytes (-1: null) and its content. All int64.
#pragma once
#include <cstdio>
#include <cstdlib>
#include "shim.h"

using Numbers = const int64_t*;
using Arrays = std::vector<std::unique_ptr<unsigned char[]>>;

template <class T> T* array(const Arrays& all, int i) { return reinterpret_cast<T*>(all[i].get()); }
inline bool take(void* to, size_t bytes) { return !bytes || fread(to, bytes, 1, stdin) == 1; }

template <class Run> int serve(Run run) {
    int64_t h[9], pointers;
    while (take(h, sizeof h) && take(&pointers, 8)) {
        Arrays all;
        std::vector<int64_t> sizes(pointers);
        for (auto& size : sizes) {
            if (!take(&size, 8)) return 2;
            all.emplace_back(size < 0 ? nullptr : new unsigned char[size]);
            if (size > 0 && !take(all.back().get(), size)) return 2;
        }
        run(h, all);
        for (size_t i = 0; i < all.size(); ++i)
            if (sizes[i] > 0) fwrite(all[i].get(), sizes[i], 1, stdout);
        fflush(stdout);
    }
    return 0;
}

#define RUN(SPACE, TYPE)                                                                          \
    [](Numbers h, const Arrays& p) {                                                              \
        auto f = [&](int i) { return array<float>(p, i); };                                       \
        auto k = array<TYPE>(p, 2 < p.size() ? 2 : 0);                                            \
        int in = int(h[6]), out = int(h[7]), deep = int(h[8]);                                    \
        launch(int(h[2]), int(h[3]), size_t(h[4]), [=] {                                          \
            if (h[1] == 0) SPACE##_forward(f(0), f(1), k, f(3), h[5], in, out, deep);             \
            if (h[1] == 1)                                                                        \
                SPACE##_backward(f(0), f(1), k, f(3), f(4), f(5), h[5], in, out, deep);           \
            if (h[1] == 2) SPACE##_reduce(f(0), f(1), int(h[5]), in, out, deep);                  \
        });                                                                                       \
    }
