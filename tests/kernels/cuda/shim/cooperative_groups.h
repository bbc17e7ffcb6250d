#pragma once
#include "shim.h"

namespace cooperative_groups {
struct cluster_group {
    static unsigned block_rank() { return block->rank; }
    static unsigned num_blocks() { return block->count; }
    static void sync() { block->cluster->meet(met_cluster); }
    template <class T> static T* map_shared_rank(T* mine, int rank) {
        size_t place = reinterpret_cast<unsigned char*>(mine) - block->memory;
        return reinterpret_cast<T*>(block->blocks[rank]->memory + place);
    }
};
inline cluster_group this_cluster() { return {}; }
}  // namespace cooperative_groups
