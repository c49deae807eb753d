// The kernels with one CPU thread for each CUDA thread and a barrier for __syncthreads, for ThreadSanitizer: it exits
// with an error where two threads of a block touch the same memory between two barriers and one of them writes.
// Blocks run one after another, for between blocks of a launch such races are part of the design (relax.cuh).
#include <pthread.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

using std::isnan;
static int min(int a, int b) { return a < b ? a : b; }

struct Extent {
    unsigned x, y, z;
};
static Extent gridDim, blockDim, blockIdx;
static thread_local Extent threadIdx;
static pthread_barrier_t barrier;
static int votes[2];

static void __syncthreads() { pthread_barrier_wait(&barrier); }
static int __syncthreads_or(int flag)
{
    static thread_local int turn = 0;
    int* vote = votes + turn++ % 2;
    if (flag) __atomic_store_n(vote, 1, __ATOMIC_RELAXED);
    __syncthreads();
    const int any = __atomic_load_n(vote, __ATOMIC_RELAXED);
    __syncthreads();
    __atomic_store_n(vote, 0, __ATOMIC_RELAXED);
    return any;
}
template <typename T, typename V> static T atomicAdd(T* at, V value) { return __atomic_fetch_add(at, (T)value, 5); }
static int atomicExch(int* at, int value) { return __atomic_exchange_n(at, value, 5); }
static int atomicOr(int* at, int value) { return __atomic_fetch_or(at, value, 5); }
static float __int_as_float(int bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#define __global__
#define __device__
#define __shared__ static
#include "geodesic.cu"

template <typename Kernel> static void launch(unsigned grid_x, unsigned grid_y, unsigned n_threads, Kernel kernel)
{
    gridDim = {grid_x, grid_y, 1};
    blockDim = {n_threads, 1, 1};
    pthread_barrier_init(&barrier, nullptr, n_threads);
    for (unsigned block = 0; block < grid_x * grid_y; ++block) {
        blockIdx = {block % grid_x, block / grid_x, 0};
        std::vector<std::thread> threads;
        for (unsigned t = 0; t < n_threads; ++t)
            threads.emplace_back([&, t] {
                threadIdx = {t, 0, 0};
                kernel();
            });
        for (auto& thread : threads) thread.join();
    }
    pthread_barrier_destroy(&barrier);
}

int main()
{
    const int depth = 3, height = 6, width = 7, n_voxels = depth * height * width, n_tiles = 2 * 2, n_classes = 2;
    const float lengths[8] = {0, 1, 1, 1.5, 3, 3.2, 3.2, 3.4}, far = INFINITE;
    std::vector<float> image(CHANNELS * n_voxels), distance(n_classes * n_voxels);
    std::vector<unsigned char> seeds(n_classes * n_voxels), domain(n_voxels), attained(n_classes * n_voxels);
    for (unsigned i = 0; i < image.size(); ++i) image[i] = (i * 2654435761u >> 7) % 8;
    for (int i = 0; i < n_voxels; ++i) domain[i] = (i * 40503u >> 3) % 5 != 0;
    seeds[13] = seeds[n_voxels + 70] = seeds[n_voxels + 71] = 1;
    domain[13] = domain[70] = domain[71] = 1;

    const unsigned n_blocks = (n_voxels + 31) / 32;
    launch(n_blocks, CHANNELS, 32, [&] { scale_image(image.data(), domain.data(), 0.5f, n_voxels); });
    launch(n_blocks, n_classes, 32, [&] { start(image.data(), seeds.data(), far, n_voxels, distance.data()); });
    std::vector<int> is_awake(n_classes * n_tiles, 1), is_woken(n_classes * n_tiles, 0);
    std::vector<Voxel> awake(n_classes * n_tiles), wake(n_classes * n_tiles);
    for (unsigned i = 0; i < awake.size(); ++i) awake[i] = i;
    unsigned long long n_awake[2] = {awake.size(), 0}, n_visits[1];
    unsigned n_rounds = 0;
    for (; n_awake[0] && n_rounds < 100; ++n_rounds, std::swap(awake, wake), std::swap(is_awake, is_woken)) {
        // Fewer blocks than tiles, so that a block relaxes several.
        launch(3, 1, THREADS, [&] {
            relax(image.data(), distance.data(), lengths, 0.5f, 0.5f, far, depth, height, width, n_tiles, awake.data(),
                is_awake.data(), wake.data(), is_woken.data(), n_awake, n_visits, 0);
        });
        n_awake[0] = n_awake[1], n_awake[1] = 0;
    }
    launch(n_blocks, n_classes, 32, [&] { finish(distance.data(), far, n_voxels); });
    unsigned long long counters[n_classes * N_COUNTERS] = {};
    launch(n_blocks, n_classes, 32, [&] {
        judge(image.data(), distance.data(), seeds.data(), lengths, 0.5f, 0.5f, far, depth, height, width,
            attained.data(), counters);
    });
    launch(n_blocks, n_classes, 32, [&] {
        count_unattained(image.data(), distance.data(), attained.data(), depth, height, width, counters);
    });
    unsigned long long n_faults = 0;
    for (int i = 0; i < n_classes * N_COUNTERS; ++i) n_faults += i % N_COUNTERS == N_UNREACHABLE ? 0 : counters[i];
    std::printf("%u rounds, %llu faults\n", n_rounds, n_faults);
    return n_faults || n_rounds < 3 || n_rounds == 100;
}
