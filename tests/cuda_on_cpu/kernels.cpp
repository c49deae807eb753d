// The CUDA kernels, word for word, as a library for the CPU: a phase is a loop over the threads of a block, and blocks
// run one after another or on several CPU threads at once.
//
// What it may not change is a result. So the order of threads within a phase and of blocks within a launch can be set:
//   CUDA_ON_CPU_THREADS   blocks at the same time (1)
//   CUDA_ON_CPU_REVERSE   1: threads of a phase from last to first, blocks too (0)
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

using std::isnan;
using std::min;

struct Extent {
    unsigned x, y, z;
};
static Extent gridDim, blockDim;
static thread_local Extent blockIdx;
static const bool IS_REVERSED = std::getenv("CUDA_ON_CPU_REVERSE") && std::atoi(std::getenv("CUDA_ON_CPU_REVERSE"));

static int nth_thread(int k) { return IS_REVERSED ? (int)blockDim.x - 1 - k : k; }

#define __global__
#define __device__
#define __shared__ static thread_local
#define EACH_THREAD(t) for (int nth = 0, t; nth < (int)blockDim.x && (t = nth_thread(nth), true); ++nth)
#define ANY_THREAD(flag) (flag)

template <typename T, typename V> static T atomicAdd(T* at, V value) { return __atomic_fetch_add(at, (T)value, 5); }
static int atomicOr(int* at, int value) { return __atomic_fetch_or(at, value, 5); }
static float __int_as_float(int bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#include "geodesic.cu"

template <typename... Parameters, std::size_t... I>
static void call(void (*kernel)(Parameters...), void** addresses, std::index_sequence<I...>)
{
    kernel(*static_cast<Parameters*>(addresses[I])...);
}

template <typename... Parameters> static void run(void (*kernel)(Parameters...), void** addresses)
{
    const char* wanted = std::getenv("CUDA_ON_CPU_THREADS");
    const long n_blocks = (long)gridDim.x * gridDim.y;
    std::atomic<long> next(0);
    auto work = [&] {
        for (long k = next++; k < n_blocks; k = next++) {
            const long block = IS_REVERSED ? n_blocks - 1 - k : k;
            blockIdx = {(unsigned)(block % gridDim.x), (unsigned)(block / gridDim.x), 0};
            call(kernel, addresses, std::index_sequence_for<Parameters...>());
        }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < (wanted ? std::atoi(wanted) : 1); ++i) others.emplace_back(work);
    work();
    for (auto& other : others) other.join();
}

// Returns whether there is a kernel of that name; runs it if there are addresses of its parameters.
extern "C" bool run_kernel(const char* name, unsigned grid_x, unsigned grid_y, unsigned block, void** addresses)
{
    gridDim = {grid_x, grid_y, 1};
    blockDim = {block, 1, 1};
#define KERNEL(kernel)                           \
    if (!std::strcmp(name, #kernel)) {           \
        if (addresses) run(kernel, addresses);   \
        return true;                             \
    }
    KERNEL(relax) KERNEL(judge) KERNEL(flood) KERNEL(count_unattained) KERNEL(scale_image) KERNEL(start)
    return false;
}
