// The CUDA kernels, word for word, as a library for the CPU: a phase is a loop over the threads of a block. Nothing in a
// kernel may depend on the order of that loop, so it can be reversed.
#include <cmath>
#include <cstring>
#include <utility>

using std::isnan;
static int min(int a, int b) { return a < b ? a : b; }

struct Extent {
    unsigned x, y, z;
};
static thread_local Extent gridDim, blockDim, blockIdx;
static thread_local bool is_reversed;

#define __global__
#define __device__
#define __shared__ static thread_local
#define EACH_THREAD(t) for (int nth = 0, t; nth < (int)blockDim.x && (t = is_reversed ? blockDim.x - 1 - nth : nth, true); ++nth)
#define ANY_THREAD(flag) (flag)

template <typename T, typename V> static T atomicAdd(T* at, V value) { return __atomic_fetch_add(at, (T)value, 5); }
static int atomicExch(int* at, int value) { return __atomic_exchange_n(at, value, 5); }
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

template <typename... Parameters> static bool run(void (*kernel)(Parameters...), void** addresses)
{
    if (addresses) call(kernel, addresses, std::index_sequence_for<Parameters...>());
    return true;
}

// Whether there is a kernel of that name. Runs one block of it if there are addresses of its parameters.
extern "C" bool run_block(
    const char* name, const unsigned grid[2], const unsigned block[2], unsigned n_threads, bool reversed, void** addresses)
{
    gridDim = {grid[0], grid[1], 1};
    blockIdx = {block[0], block[1], 0};
    blockDim = {n_threads, 1, 1};
    is_reversed = reversed;
#define KERNEL(kernel) \
    if (!std::strcmp(name, #kernel)) return run(kernel, addresses);
    KERNEL(relax) KERNEL(finish) KERNEL(judge) KERNEL(flood) KERNEL(count_unattained) KERNEL(scale_image) KERNEL(start)
    return false;
}
