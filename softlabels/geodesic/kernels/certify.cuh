// The certificate of softlabels/geodesic/_certify.py, voxel by voxel. Reads the whole map and changes nothing in it.
#pragma once
#include "block.cuh"
#include "step_cost.cuh"

// Counters of one class, as 64-bit integers in this order.
enum { N_VIOLATED, N_UNATTAINED, N_UNREACHABLE, N_COUNTERS };

// Calls visit(q, step cost) for each neighbour q of p within the volume.
template <typename Visit>
__device__ inline void for_each_neighbour(
    const float* scaled, Voxel p, const float* lengths, Weights weights, Shape shape, Visit visit)
{
    const Voxel n_voxels = (Voxel)shape.depth * shape.height * shape.width;
    const int x = p % shape.width, y = p / shape.width % shape.height, z = p / shape.width / shape.height;
    for (int k = 0; k < 27; ++k) {
        const int dz = k / 9 - 1, dy = k / 3 % 3 - 1, dx = k % 3 - 1;
        if (k == 13 || z + dz < 0 || z + dz >= shape.depth || y + dy < 0 || y + dy >= shape.height || x + dx < 0 ||
            x + dx >= shape.width)
            continue;
        const Voxel q = p + ((Voxel)dz * shape.height + dy) * shape.width + dx;
        const float length = lengths[4 * (dz != 0) + 2 * (dy != 0) + (dx != 0)];
        visit(q, step_cost(scaled, n_voxels, p, q, length, weights));
    }
}

// FEASIBLE, and ATTAINED by a strictly nearer neighbour. Grid: (voxels / block, classes); any block.
//
// distance  (C, D, H, W), the map to judge, inf where no path arrives
// seeds     (C, D, H, W) bytes
// attained  (C, D, H, W) bytes, written in full
// counters  (C, N_COUNTERS), 0 before
extern "C" __global__ void judge(const float* scaled, const float* distance, const unsigned char* seeds,
    const float* lengths, float keep, float lamb, float cap, int depth, int height, int width, unsigned char* attained,
    unsigned long long* counters)
{
    const Shape shape = {depth, height, width};
    const Voxel n_voxels = (Voxel)depth * height * width, map = blockIdx.y * n_voxels;
    const float* d = distance + map;
    unsigned long long* count = counters + blockIdx.y * N_COUNTERS;
    EACH_THREAD(t)
    {
        const Voxel p = (Voxel)blockIdx.x * blockDim.x + t;
        if (p < n_voxels) {
            const float here = d[p];
            const bool is_wall = isnan(scaled[p]), is_seed = !is_wall && seeds[map + p];
            bool is_attained = is_seed, is_violated = is_wall ? here != INFINITE : here != 0.0f;
            if (!is_wall && !is_seed) {
                float least = INFINITE;
                for_each_neighbour(scaled, p, lengths, {keep, lamb}, shape, [&](Voxel q, float step) {
                    const float candidate = d[q] + step;
                    if (candidate <= cap && candidate < least) least = candidate;
                    if (candidate == here && d[q] < here) is_attained = true;
                });
                is_violated = !(here >= 0.0f && here <= least && (here <= cap || here == INFINITE));
                if (here == INFINITE) atomicAdd(count + N_UNREACHABLE, 1ull);
            }
            if (is_violated) atomicAdd(count + N_VIOLATED, 1ull);
            attained[map + p] = is_attained;
        }
    }
}

// One pass of the flood over plateaus: along steps of no increment, from what is attained. Grid as judge.
// Passes may read `attained` while it grows; n_grown counts what this pass has added, and 0 ends the flood.
extern "C" __global__ void flood(const float* scaled, const float* distance, const float* lengths, float keep,
    float lamb, int depth, int height, int width, unsigned char* attained,
    unsigned long long* n_grown)
{
    const Shape shape = {depth, height, width};
    const Voxel n_voxels = (Voxel)depth * height * width, map = blockIdx.y * n_voxels;
    const float* d = distance + map;
    unsigned char* known = attained + map;
    EACH_THREAD(t)
    {
        const Voxel p = (Voxel)blockIdx.x * blockDim.x + t;
        if (p < n_voxels && !known[p] && d[p] < INFINITE) {
            bool is_attained = false;
            for_each_neighbour(scaled, p, lengths, {keep, lamb}, shape, [&](Voxel q, float step) {
                if (known[q] && d[q] == d[p] && d[q] + step == d[p]) is_attained = true;
            });
            if (is_attained) {
                known[p] = 1;
                atomicAdd(n_grown, 1ull);
            }
        }
    }
}

// Counts what the flood has not reached. Grid as judge.
extern "C" __global__ void count_unattained(const float* scaled, const float* distance, const unsigned char* attained,
    int depth, int height, int width, unsigned long long* counters)
{
    const Voxel n_voxels = (Voxel)depth * height * width, map = blockIdx.y * n_voxels;
    EACH_THREAD(t)
    {
        const Voxel p = (Voxel)blockIdx.x * blockDim.x + t;
        if (p < n_voxels && !isnan(scaled[p]) && !attained[map + p] && distance[map + p] != INFINITE)
            atomicAdd(counters + blockIdx.y * N_COUNTERS + N_UNATTAINED, 1ull);
    }
}
