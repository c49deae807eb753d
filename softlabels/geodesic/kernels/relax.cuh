// The solver: tiles of TILE^3 voxels are relaxed in shared memory until nothing changes in them, and wake the
// neighbours that can see a change, until no tile is awake.
//
// d_p = min(d_p, fl(d_q + w_pq)) only ever lowers d, and has one fixpoint whatever the order (README.md). So it does no
// harm that blocks of one launch read each other's border while it changes: whoever lowers a border wakes all who see
// it for the next launch, and that begins after this one has written everything.
#pragma once
#include "block.cuh"
#include "step_cost.cuh"

constexpr int THREADS = TILE * TILE;

// A tile in shared memory: TILE + 2 planes of TILE + 2 rows of TILE + 2 cells, with a halo of one voxel on every side.
// A warp works on 32 / TILE rows at a time. For TILE 16 that are two rows which lie 8 apart, and two more cells a plane
// then put these rows, and those of two planes 8 apart, into different halves of the 32 banks.
constexpr int ROW = TILE + 2;
constexpr int PLANE = ROW * ROW + (TILE == 16 ? 2 : 0);
constexpr int CELLS = ROW * PLANE;
constexpr int ROWS_OF_WARP = 32 / TILE < TILE ? 32 / TILE : TILE;

// The row, 1..TILE, and the cell in it, 1..TILE, that thread t works on in a plane of any orientation.
__device__ inline int row_of_thread(int t) { return t / 32 + t / TILE % ROWS_OF_WARP * (TILE / ROWS_OF_WARP) + 1; }
__device__ inline int column_of_thread(int t) { return t % TILE + 1; }

// Place of a tile in the volume: the first voxel, and how many voxels along each axis (z, y, x) lie inside.
struct Tile {
    int first[3], extent[3], count[3];
};

__device__ inline Tile tile_at(Voxel index, Shape shape)
{
    const int size[3] = {shape.depth, shape.height, shape.width};
    Tile tile;
    Voxel rest = index;
    for (int axis = 2; axis >= 0; --axis) {
        tile.count[axis] = (size[axis] + TILE - 1) / TILE;
        tile.first[axis] = rest % tile.count[axis] * TILE;
        tile.extent[axis] = min(TILE, size[axis] - tile.first[axis]);
        rest /= tile.count[axis];
    }
    return tile;
}

// The voxel under a cell of the tile with its halo, or -1 outside of the volume.
__device__ inline Voxel voxel_of_cell(int cell, Tile tile, Shape shape)
{
    const int z = tile.first[0] + cell / PLANE - 1;
    const int y = tile.first[1] + cell % PLANE / ROW - 1;
    const int x = tile.first[2] + cell % PLANE % ROW - 1;
    const bool inside = z >= 0 && z < shape.depth && y >= 0 && y < shape.height && x >= 0 && x < shape.width;
    return inside ? ((Voxel)z * shape.height + y) * shape.width + x : -1;
}

// Lower d[p] by the 9 neighbours one plane behind it; 1 if that changed it. a and b step within a plane.
__device__ inline int relax_from_plane(
    float* d, const float* scaled, int p, int behind, int a, int b, const float length[2][2], Weights weights)
{
    const float before = d[p];
    float least = before;
    for (int u = -1; u <= 1; ++u)
        for (int v = -1; v <= 1; ++v) {
            const int q = p + behind + u * a + v * b;
            const float candidate = d[q] + step_cost(scaled, CELLS, p, q, length[u != 0][v != 0], weights);
            least = candidate < least ? candidate : least;  // a NaN never wins
        }
    d[p] = least;
    return least < before;
}

// Sweep the tile along +z, -z, +y, -y, +x, -x in turn until six sweeps in a row change nothing: as a sweep repeated
// changes nothing, one that did change something counts as the first of the six.
__device__ inline void relax_tile(float* d, const float* scaled, Tile tile, const float* lengths, Weights weights)
{
    const int stride[3] = {PLANE, ROW, 1}, bit[3] = {4, 2, 1};  // bit: of the index [|dz|][|dy|][|dx|]
    for (int sweep = 0, n_quiet = 0; n_quiet < 6; sweep = (sweep + 1) % 6) {
        const int axis = sweep / 2, a = axis == 0, b = axis == 2 ? 1 : 2;
        const bool is_forward = sweep % 2 == 0;
        const float length[2][2] = {{lengths[bit[axis]], lengths[bit[axis] + bit[b]]},
                                    {lengths[bit[axis] + bit[a]], lengths[7]}};
        int changed = 0;
        for (int step = 1; step <= tile.extent[axis]; ++step) {
            const int plane = is_forward ? step : tile.extent[axis] + 1 - step;
            EACH_THREAD(t)
            {
                const int u = row_of_thread(t), v = column_of_thread(t);
                if (u <= tile.extent[a] && v <= tile.extent[b]) {
                    const int p = plane * stride[axis] + u * stride[a] + v * stride[b];
                    const int behind = is_forward ? -stride[axis] : stride[axis];
                    changed |= relax_from_plane(d, scaled, p, behind, stride[a], stride[b], length, weights);
                }
            }
        }
        n_quiet = ANY_THREAD(changed) ? 1 : n_quiet + 1;
    }
}

// Which of the 27 tiles around see a cell, as bits 9 z + 3 y + x with z, y, x in 0..2 and 13 the tile itself.
__device__ inline int tiles_that_see(int cell, Tile tile)
{
    const int place[3] = {cell / PLANE, cell % PLANE / ROW, cell % PLANE % ROW};
    int seen = 1;
    for (int axis = 2, shift = 1; axis >= 0; --axis, shift *= 3) {
        const int below = place[axis] == 1 ? seen : 0, above = place[axis] == tile.extent[axis] ? seen : 0;
        seen = below | seen << shift | above << 2 * shift;
    }
    return seen;
}

// One round for all classes. Grid: any number of blocks, which share the list of tiles; block: THREADS.
//
// A tile of a class has the index class * tiles of a volume + tile.
//
// scaled    (CHANNELS, D, H, W) intensities times the metric's scale, NaN in walls
// distance  (C, D, H, W), lowered in place
// lengths   (2, 2, 2) of the step cost, by [|dz|][|dy|][|dx|]
// far       what distance holds where no path has arrived: inf, or the float next above a cap
// n_tiles   tiles of a volume
// awake     (C * tiles) the tiles to relax, n_awake[round] of them, each once
// is_awake  (C * tiles) 1 for those, 0 for others; all 0 afterwards
// wake      (C * tiles) receives what the next round has to look at, and n_awake[round + 1] their number, 0 before
// is_woken  (C * tiles) 1 for those, 0 for others; all 0 before
// n_visits  n_visits[round] counts the tiles that a path has reached
extern "C" __global__ void relax(const float* scaled, float* distance, const float* lengths, float keep, float lamb,
    float far, int depth, int height, int width, Voxel n_tiles, const Voxel* awake, int* is_awake, Voxel* wake,
    int* is_woken, unsigned long long* n_awake, unsigned long long* n_visits, int round)
{
    __shared__ float d[CELLS];
    __shared__ float j[CHANNELS * CELLS];
    __shared__ int seen;
    const Shape shape = {depth, height, width};
    const Voxel n_voxels = (Voxel)depth * height * width, n_listed = n_awake[round];
    for (Voxel nth = blockIdx.x; nth < n_listed; nth += gridDim.x) {
        const Voxel index = awake[nth], first = index / n_tiles * n_tiles;
        const Tile tile = tile_at(index - first, shape);
        float* own = distance + index / n_tiles * n_voxels;

        int is_reached = 0;
        EACH_THREAD(t)
        {
            for (int cell = t; cell < CELLS; cell += THREADS) {
                const Voxel voxel = voxel_of_cell(cell, tile, shape);
                d[cell] = voxel < 0 ? far : own[voxel];
                for (int channel = 0; channel < CHANNELS; ++channel)
                    j[channel * CELLS + cell] = voxel < 0 ? nanf("") : scaled[channel * n_voxels + voxel];
                is_reached |= d[cell] < far;
            }
            if (t == 0) seen = 0;
        }
        is_reached = ANY_THREAD(is_reached);
        if (is_reached) relax_tile(d, j, tile, lengths, {keep, lamb});

        EACH_THREAD(t)
        {
            if (t == 0) is_awake[index] = 0;
            if (t == 0 && is_reached) atomicAdd(n_visits + round, 1ull);
            const int u = row_of_thread(t), v = column_of_thread(t);
            for (int z = 1; is_reached && z <= tile.extent[0] && u <= tile.extent[1] && v <= tile.extent[2]; ++z) {
                const int cell = z * PLANE + u * ROW + v;
                const Voxel voxel = voxel_of_cell(cell, tile, shape);
                if (d[cell] < own[voxel]) {
                    own[voxel] = d[cell];
                    atomicOr(&seen, tiles_that_see(cell, tile));
                }
            }
        }
        EACH_THREAD(t)
        {
            for (int other = t; other < 27; other += THREADS) {
                const int at[3] = {other / 9 - 1, other / 3 % 3 - 1, other % 3 - 1};
                Voxel woken = 0;
                bool is_inside = other != 13 && (seen >> other & 1);
                for (int axis = 0; axis < 3; ++axis) {
                    const int place = tile.first[axis] / TILE + at[axis];
                    is_inside = is_inside && place >= 0 && place < tile.count[axis];
                    woken = woken * tile.count[axis] + place;
                }
                // Whoever is the first to wake a tile puts it on the list.
                if (is_inside && atomicExch(is_woken + first + woken, 1) == 0)
                    wake[atomicAdd(n_awake + round + 1, 1ull)] = first + woken;
            }
        }
    }
}

// inf for `far`, after the last round. Grid: (voxels / block, classes); any block.
extern "C" __global__ void finish(float* distance, float far, Voxel n_voxels)
{
    EACH_THREAD(t)
    {
        const Voxel p = (Voxel)blockIdx.x * blockDim.x + t;
        float* value = distance + blockIdx.y * n_voxels + p;
        if (p < n_voxels && *value == far) *value = INFINITE;
    }
}
