// Runs launches that come by standard input, and answers with the arrays after each.
//
// A launch: which kernel, blocks, threads, bytes of shared memory, blocks at the same time; how many
// numbers and they; how many pointers, and for each its size in bytes (-1: null) and its content.
// All numbers are int64.
#pragma once
#include <cstdio>
#include <cstdlib>
#include "shim.h"

struct Pointer {
    unsigned char* place;
    template <class T> operator T*() const { return reinterpret_cast<T*>(place); }
};
using Numbers = std::vector<int64_t>;
using Pointers = std::vector<Pointer>;
using Kernel = void (*)(const Numbers&, const Pointers&);

inline bool take(void* to, size_t bytes) { return !bytes || fread(to, bytes, 1, stdin) == 1; }

inline int serve(const Kernel* kernels) {
    int64_t h[5], count;
    while (take(h, sizeof h) && take(&count, 8)) {
        Numbers numbers(count);
        if (!take(numbers.data(), 8 * count) || !take(&count, 8)) return 2;
        std::vector<std::unique_ptr<unsigned char[]>> all;
        Pointers pointers;
        Numbers sizes(count);
        for (auto& size : sizes) {
            if (!take(&size, 8)) return 2;
            all.emplace_back(size < 0 ? nullptr : new unsigned char[size]);
            if (size > 0 && !take(all.back().get(), size)) return 2;
            pointers.push_back({all.back().get()});
        }
        launch(int(h[1]), int(h[2]), size_t(h[3]), int(h[4]),
               [&] { kernels[h[0]](numbers, pointers); });
        for (size_t i = 0; i < all.size(); ++i)
            if (sizes[i] > 0) fwrite(all[i].get(), sizes[i], 1, stdout);
        fflush(stdout);
    }
    return 0;
}
