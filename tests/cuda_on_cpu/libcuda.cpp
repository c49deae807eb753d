// A CUDA driver without a device: as much of libcuda.so.1 as the engine calls, with main memory as device memory.
// A module is not machine code but the path of a library made from kernels.cpp.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>

typedef int Status;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };
typedef bool (*RunKernel)(const char*, unsigned, unsigned, unsigned, void**);

struct Function {
    RunKernel run;
    std::string name;
};

static int n_contexts = 0, n_allocations = 0;

extern "C" {
Status cuInit(unsigned) { return SUCCESS; }
Status cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
Status cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
Status cuDeviceGet(int* device, int index) { return *device = index, SUCCESS; }
Status cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute == 75 ? 9 : 0, SUCCESS; }
Status cuDevicePrimaryCtxRetain(void** context, int) { return ++n_contexts, *context = &n_contexts, SUCCESS; }
Status cuDevicePrimaryCtxRelease_v2(int) { return --n_contexts, SUCCESS; }
Status cuCtxPushCurrent_v2(void*) { return SUCCESS; }
Status cuCtxPopCurrent_v2(void** context) { return *context = &n_contexts, SUCCESS; }

Status cuMemAlloc_v2(void** pointer, size_t size)
{
    const char* most = std::getenv("CUDA_ON_CPU_MEMORY");
    if (most && size > (size_t)std::atoll(most)) return OUT_OF_MEMORY;
    if (!size) return INVALID_VALUE;
    return ++n_allocations, *pointer = std::malloc(size), SUCCESS;
}
Status cuMemFree_v2(void* pointer) { return --n_allocations, std::free(pointer), SUCCESS; }
Status cuMemcpyHtoD_v2(void* to, const void* from, size_t size) { return std::memcpy(to, from, size), SUCCESS; }
Status cuMemcpyDtoH_v2(void* to, const void* from, size_t size) { return std::memcpy(to, from, size), SUCCESS; }

Status cuModuleLoadData(void** module, const void* image)
{
    *module = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
    return *module ? SUCCESS : INVALID_VALUE;
}
Status cuModuleUnload(void*) { return SUCCESS; }
Status cuModuleGetFunction(void** function, void* module, const char* name)
{
    auto run = reinterpret_cast<RunKernel>(dlsym(module, "run_kernel"));
    if (!run(name, 0, 0, 0, nullptr)) return NOT_FOUND;
    return *function = new Function{run, name}, SUCCESS;
}
Status cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned, unsigned block, unsigned,
    unsigned, unsigned, void*, void** addresses, void**)
{
    if (!grid_x || !grid_y || grid_y > 65535 || !block || block > 1024) return INVALID_VALUE;
    function->run(function->name.c_str(), grid_x, grid_y, block, addresses);
    return SUCCESS;
}

// What is still held, for the test that nothing is.
int cuda_on_cpu_held() { return n_contexts + n_allocations; }

Status cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int*)
{
    *function = dlsym(RTLD_DEFAULT, (std::string(name) + "_v2").c_str());
    if (!*function) *function = dlsym(RTLD_DEFAULT, name);
    return *function ? SUCCESS : NOT_FOUND;
}
}
