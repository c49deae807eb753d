// A CUDA driver without a device: as much of libcuda.so.1 as the engine calls, with main memory as device memory.
// A module is not machine code but the path of a library made from kernels.cpp.
//
// These variables may change how it works, but no result:
//   CUDA_ON_CPU_THREADS   blocks of a launch at the same time (1)
//   CUDA_ON_CPU_REVERSE   "threads", "blocks" or both: from last to first
//   CUDA_ON_CPU_MEMORY    bytes that the device has (2^40)
//   CUDA_ON_CPU_TELLS     if set, a line to stderr for each context made
// and these make it another or a bad device:
//   CUDA_ON_CPU_DRIVER      newest version of CUDA that the driver knows (13000)
//   CUDA_ON_CPU_CAPABILITY  compute capability times 10 (90)
//   CUDA_ON_CPU_FAULT       the name of a kernel that fails when it is started; from then on everything fails
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

typedef int Status;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700 };
enum { N_PROCESSORS = 16, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };  // of CUdevice_attribute
typedef bool (*RunBlock)(const char*, const unsigned[2], const unsigned[2], unsigned, bool, void**);

struct Function {
    RunBlock run_block;
    std::string name;
};

static int n_pushed = 0, n_allocations = 0;
static pid_t process = 0;
// What every call that touches the device gives: a fault is found by the next call after the kernel, and stays.
static std::atomic<Status> fault(SUCCESS);

static std::string option(const char* name, const char* otherwise)
{
    const char* value = std::getenv(name);
    return value ? value : otherwise;
}

static size_t memory() { return std::stoull(option("CUDA_ON_CPU_MEMORY", "1099511627776")); }

extern "C" {
Status cuInit(unsigned)
{
    if (!process) process = getpid();
    return process == getpid() ? SUCCESS : NOT_INITIALIZED;
}
Status cuGetErrorName(int status, const char** name)
{
    *name = status == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_OF_CUDA_ON_CPU";
    return SUCCESS;
}
Status cuDriverGetVersion(int* version) { return *version = std::stoi(option("CUDA_ON_CPU_DRIVER", "13000")), SUCCESS; }
Status cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
Status cuDeviceGet(int* device, int index) { return *device = index, SUCCESS; }
Status cuDeviceGetName(char* name, int size, int) { return std::snprintf(name, size, "a CPU"), SUCCESS; }
Status cuDeviceGetAttribute(int* value, int name, int)
{
    const int capability = std::stoi(option("CUDA_ON_CPU_CAPABILITY", "90"));
    *value = name == CAPABILITY_MAJOR   ? capability / 10
             : name == CAPABILITY_MINOR ? capability % 10
             : name == N_PROCESSORS     ? 1
                                        : 0;
    return SUCCESS;
}
Status cuDevicePrimaryCtxRetain(void** context, int)
{
    if (std::getenv("CUDA_ON_CPU_TELLS")) std::fprintf(stderr, "cuda_on_cpu: context made\n");
    return *context = &n_pushed, SUCCESS;
}
Status cuCtxPushCurrent_v2(void*) { return ++n_pushed, SUCCESS; }
Status cuCtxPopCurrent_v2(void** context) { return --n_pushed, *context = &n_pushed, SUCCESS; }

Status cuMemAlloc_v2(void** pointer, size_t size)
{
    if (fault) return fault;
    if (!size) return INVALID_VALUE;
    if (size > memory()) return OUT_OF_MEMORY;
    return ++n_allocations, *pointer = std::malloc(size), SUCCESS;
}
Status cuMemFree_v2(void* pointer) { return --n_allocations, std::free(pointer), fault.load(); }
Status cuMemGetInfo_v2(size_t* free, size_t* total) { return *free = *total = memory(), fault.load(); }
Status cuMemcpyHtoD_v2(void* to, const void* from, size_t size) { return std::memcpy(to, from, size), fault.load(); }
Status cuMemcpyDtoH_v2(void* to, const void* from, size_t size) { return std::memcpy(to, from, size), fault.load(); }

Status cuModuleLoadData(void** module, const void* image)
{
    *module = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
    return *module ? SUCCESS : INVALID_VALUE;
}
Status cuModuleGetFunction(void** function, void* module, const char* name)
{
    auto run_block = reinterpret_cast<RunBlock>(dlsym(module, "run_block"));
    const unsigned none[2] = {0, 0};
    if (!run_block(name, none, none, 0, false, nullptr)) return NOT_FOUND;
    return *function = new Function{run_block, name}, SUCCESS;
}

Status cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned, unsigned n_threads, unsigned,
    unsigned, unsigned, void*, void** addresses, void**)
{
    if (fault) return fault;
    if (function->name == option("CUDA_ON_CPU_FAULT", "")) return fault = ILLEGAL_ADDRESS, SUCCESS;
    if (!grid_x || !grid_y || grid_y > 65535 || !n_threads || n_threads > 1024) return INVALID_VALUE;
    const std::string reverse = option("CUDA_ON_CPU_REVERSE", "");
    const bool threads_reversed = reverse.find("threads") != std::string::npos;
    const bool blocks_reversed = reverse.find("blocks") != std::string::npos;
    const unsigned grid[2] = {grid_x, grid_y};
    const long n_blocks = (long)grid_x * grid_y;
    std::atomic<long> next(0);
    auto work = [&] {
        for (long k = next++; k < n_blocks; k = next++) {
            const long nth = blocks_reversed ? n_blocks - 1 - k : k;
            const unsigned block[2] = {(unsigned)(nth % grid_x), (unsigned)(nth / grid_x)};
            function->run_block(function->name.c_str(), grid, block, n_threads, threads_reversed, addresses);
        }
    };
    std::vector<std::thread> others(std::stoi(option("CUDA_ON_CPU_THREADS", "1")) - 1);
    for (auto& other : others) other = std::thread(work);
    work();
    for (auto& other : others) other.join();
    return SUCCESS;
}

// Memory taken and contexts pushed, for the test that nothing is.
int cuda_on_cpu_held() { return n_pushed + n_allocations; }

// Ends a fault, which on a device only the end of the process does.
void cuda_on_cpu_heal() { fault = SUCCESS; }
}
