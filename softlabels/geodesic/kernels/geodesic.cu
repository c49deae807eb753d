// All kernels of the CUDA engine, compiled once for each FORM, CHANNELS, TILE and architecture.
#include "block.cuh"
#include "certify.cuh"
#include "relax.cuh"
#include "step_cost.cuh"

// Scales the intensities in place and puts NaN in walls. Grid: (voxels / block, channels); any block.
//
// image   (CHANNELS, D, H, W)
// domain  (D, H, W) bytes, 0 is a wall; null for no walls
extern "C" __global__ void scale_image(float* image, const unsigned char* domain, float scale, Voxel n_voxels)
{
    EACH_THREAD(t)
    {
        const Voxel p = (Voxel)blockIdx.x * blockDim.x + t;
        float* value = image + blockIdx.y * n_voxels + p;
        if (p < n_voxels) *value = domain && !domain[p] ? nanf("") : *value * scale;
    }
}

// 0 at the seeds that lie in no wall, far elsewhere. Grid: (voxels / block, classes); any block.
//
// scaled           as relax takes it
// seeds, distance  (C, D, H, W)
extern "C" __global__ void start(
    const float* scaled, const unsigned char* seeds, float far, Voxel n_voxels, float* distance)
{
    EACH_THREAD(t)
    {
        const Voxel p = (Voxel)blockIdx.x * blockDim.x + t, at = blockIdx.y * n_voxels + p;
        if (p < n_voxels) distance[at] = seeds[at] && !isnan(scaled[p]) ? 0.0f : far;
    }
}
