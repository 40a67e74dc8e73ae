/* A libnvidia-ml.so.1 for tests: it shows the devices that a text file describes. tests/hardware/nvml.py builds it and
 * says how such a file looks. Built with -DOLD_DRIVER it lacks what drivers of 2018 lacked. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    UNKNOWN = 999
};
enum { MAX_DEVICES = 64, MAX_GPUS = 32, MAX_PROCESSES = 16, MAX_LINKS = 36, MAX_ERRORS = 16, TO_SWITCH = -1 };

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } ProcessInfo;
typedef struct {
    char legacy_bus_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} PciInfo;

typedef struct Device {
    int index, parent; /* parent: place in `devices` of the GPU that an instance is of, -1 for a GPU */
    char uuid[96], name[96];
    unsigned long long total, used;
    int major, minor, in_mig_mode, utilization; /* in per cent, -1: not told */
    int temperature, power, power_limit;        /* in degrees and watts, -1: not told */
    unsigned pcie_generation, pcie_lanes;
    ProcessInfo processes[2][MAX_PROCESSES]; /* compute, graphics */
    unsigned num_processes[2];
    struct { int to; unsigned version; } links[MAX_LINKS];
    unsigned num_links;
} Device;

static Device devices[MAX_DEVICES];
static int num_devices, num_gpus, num_users;
static struct { char call[64]; int device, code; } errors[MAX_ERRORS]; /* device -1: whichever */
static int num_errors;
static int level[MAX_GPUS][MAX_GPUS], peer_status[MAX_GPUS][MAX_GPUS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the file ---- */

static char *field(char *line, const char *key) { /* the text behind `key=`, up to a comma; static */
    static char value[96];
    char pattern[32], *found = line, *end;
    snprintf(pattern, sizeof pattern, "%s=", key);
    while ((found = strstr(found, pattern)) && found > line && found[-1] != ' ' && found[-1] != ',') found++;
    if (!found) return NULL;
    found += strlen(pattern);
    end = strchr(found, ',');
    snprintf(value, sizeof value, "%.*s", (int)(end ? end - found : (long)strlen(found)), found);
    return value;
}

static double number(char *line, const char *key, double missing) {
    char *value = field(line, key);
    return value ? atof(value) : missing;
}

static unsigned long long gib(char *line, const char *key) {
    return (unsigned long long)(number(line, key, 0) * (1ull << 30));
}

static void words(char *line, const char *key, char *into, size_t size, const char *missing, int place) {
    char *value = field(line, key);
    if (value) snprintf(into, size, "%s", value);
    else snprintf(into, size, missing, place);
}

static void add_device(char *line, int parent) {
    Device *device = &devices[num_devices];
    memset(device, 0, sizeof *device);
    device->parent = parent;
    device->index = parent < 0 ? num_gpus++ : devices[parent].index;
    words(line, "uuid", device->uuid, sizeof device->uuid, parent < 0 ? "GPU-%d" : "MIG-%d",
          parent < 0 ? device->index : num_devices);
    words(line, "name", device->name, sizeof device->name, "NVIDIA Stub", 0);
    device->total = gib(line, "gib");
    device->used = gib(line, "used_gib");
    device->utilization = (int)number(line, "busy", -1);
    device->temperature = (int)number(line, "celsius", -1);
    device->power = (int)number(line, "watts", -1);
    device->power_limit = (int)number(line, "limit", -1);
    device->major = 8;
    char *capability = field(line, "cc");
    if (capability) sscanf(capability, "%d.%d", &device->major, &device->minor);
    device->in_mig_mode = (int)number(line, "mig", -1);
    device->pcie_generation = (unsigned)number(line, "pcie", 4);
    device->pcie_lanes = (unsigned)number(line, "lanes", 16);
    num_devices++;
}

static void add_process(char *line) {
    Device *device = &devices[num_devices - 1];
    int graphics = (int)number(line, "graphics", 0);
    ProcessInfo *process = &device->processes[graphics][device->num_processes[graphics]++];
    memset(process, 0, sizeof *process);
    process->pid = (unsigned)number(line, "pid", 0);
    process->used = field(line, "gib") ? gib(line, "gib") : ~0ull; /* NVML_VALUE_NOT_AVAILABLE */
}

static void add_links(char *line) {
    Device *device = &devices[num_devices - 1];
    char *to = field(line, "to");
    int target = to && !strcmp(to, "switch") ? TO_SWITCH : (int)number(line, "to", 0);
    for (int count = (int)number(line, "count", 1); count-- && device->num_links < MAX_LINKS; device->num_links++) {
        device->links[device->num_links].to = target;
        device->links[device->num_links].version = (unsigned)number(line, "version", 6);
    }
}

static void add_pair(char *line) {
    int first = (int)number(line, "first", 0), second = (int)number(line, "second", 0);
    level[first][second] = level[second][first] = (int)number(line, "level", 50);
    peer_status[first][second] = peer_status[second][first] = (int)number(line, "p2p", 0);
}

static void add_error(char *line) {
    words(line, "call", errors[num_errors].call, sizeof errors[0].call, "", 0);
    errors[num_errors].device = num_devices - 1;
    errors[num_errors++].code = (int)number(line, "code", UNKNOWN);
}

static int read_description(void) {
    const char *path = getenv("NVML_STUB_DESCRIPTION");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], kind[16];
    int parent = -1;
    if (!file) return UNKNOWN;
    num_devices = num_gpus = num_errors = 0;
    for (int i = 0; i < MAX_GPUS; i++)
        for (int j = 0; j < MAX_GPUS; j++) level[i][j] = 50, peer_status[i][j] = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%15s", kind) != 1 || kind[0] == '#') continue;
        if (!strcmp(kind, "gpu")) parent = num_devices, add_device(line, -1);
        else if (!strcmp(kind, "mig")) add_device(line, parent);
        else if (!strcmp(kind, "process")) add_process(line);
        else if (!strcmp(kind, "nvlink")) add_links(line);
        else if (!strcmp(kind, "pair")) add_pair(line);
        else if (!strcmp(kind, "error")) add_error(line);
        else fprintf(stderr, "nvml_stub: what is this? %s\n", line), abort();
    }
    fclose(file);
    return SUCCESS;
}

/* ---- the calls ---- */

static int failure(const char *call, const Device *device) {
    if (!num_users) return UNINITIALIZED;
    for (int i = 0; i < num_errors; i++) {
        int here = errors[i].device < 0 || (device && device == &devices[errors[i].device]);
        int named = errors[i].call[0] ? !strcmp(errors[i].call, call) : device != NULL;
        if (here && named) return errors[i].code;
    }
    return SUCCESS;
}

#define FAIL_IF_TOLD(device)                                                                                           \
    do {                                                                                                               \
        int code = failure(__func__, device);                                                                          \
        if (code) return code;                                                                                         \
    } while (0)

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    int code = num_users ? SUCCESS : read_description();
    num_users++;
    if (!code) code = failure(__func__, NULL);
    if (code) num_users--;
    pthread_mutex_unlock(&lock);
    return code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    int code = failure(__func__, NULL);
    if (!code) num_users--;
    pthread_mutex_unlock(&lock);
    return code;
}

const char *nvmlErrorString(int code) { return code == 998 ? "Something New" : "Stub Error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    FAIL_IF_TOLD(NULL);
    *count = (unsigned)num_gpus;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **handle) {
    for (int i = 0; i < num_devices; i++) {
        if (devices[i].parent >= 0 || devices[i].index != (int)index) continue;
        FAIL_IF_TOLD(&devices[i]);
        *handle = &devices[i];
        return SUCCESS;
    }
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetUUID(Device *device, char *into, unsigned size) {
    FAIL_IF_TOLD(device);
    return strlen(device->uuid) < size ? (strcpy(into, device->uuid), SUCCESS) : INSUFFICIENT_SIZE;
}

int nvmlDeviceGetName(Device *device, char *into, unsigned size) {
    FAIL_IF_TOLD(device);
    return strlen(device->name) < size ? (strcpy(into, device->name), SUCCESS) : INSUFFICIENT_SIZE;
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    FAIL_IF_TOLD(device);
    memory->total = device->total;
    memory->used = device->used;
    memory->free = device->total - device->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *rates) {
    FAIL_IF_TOLD(device);
    if (device->parent >= 0 || device->utilization < 0) return NOT_SUPPORTED;
    rates->gpu = (unsigned)device->utilization;
    rates->memory = 0;
    return SUCCESS;
}

static int told(const Device *device, int value, unsigned factor, unsigned *into) {
    if (device->parent >= 0 || value < 0) return NOT_SUPPORTED;
    *into = (unsigned)value * factor;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *celsius) {
    FAIL_IF_TOLD(device);
    return sensor == 0 ? told(device, device->temperature, 1, celsius) : INVALID_ARGUMENT;
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    FAIL_IF_TOLD(device);
    return told(device, device->power, 1000, milliwatts);
}

int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    FAIL_IF_TOLD(device);
    return told(device, device->power_limit, 1000, milliwatts);
}

int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    FAIL_IF_TOLD(device);
    if (device->parent >= 0) return NOT_SUPPORTED;
    *major = device->major;
    *minor = device->minor;
    return SUCCESS;
}

static void fill_address(const Device *device, PciInfo *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = 1 + (unsigned)device->index;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
}

int nvmlDeviceGetPciInfo_v3(Device *device, PciInfo *pci) {
    FAIL_IF_TOLD(device);
    fill_address(device, pci);
    return SUCCESS;
}

int nvmlDeviceGetMaxPcieLinkGeneration(Device *device, unsigned *generation) {
    FAIL_IF_TOLD(device);
    *generation = device->pcie_generation;
    return SUCCESS;
}

int nvmlDeviceGetMaxPcieLinkWidth(Device *device, unsigned *lanes) {
    FAIL_IF_TOLD(device);
    *lanes = device->pcie_lanes;
    return SUCCESS;
}

static int list_processes(Device *device, int graphics, unsigned *size, ProcessInfo *into) {
    unsigned there = device->num_processes[graphics];
    int fits = *size >= there;
    *size = there;
    if (!fits) return INSUFFICIENT_SIZE;
    if (there) memcpy(into, device->processes[graphics], there * sizeof *into);
    return SUCCESS;
}

#define LISTS_PROCESSES(call, graphics)                                                                                \
    int call(Device *device, unsigned *size, ProcessInfo *into) {                                                      \
        FAIL_IF_TOLD(device);                                                                                          \
        return list_processes(device, graphics, size, into);                                                           \
    }
LISTS_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 0)
LISTS_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 1)

#ifndef OLD_DRIVER
LISTS_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 0)
LISTS_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 1)

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    FAIL_IF_TOLD(device);
    if (device->in_mig_mode < 0) return NOT_SUPPORTED;
    *current = *pending = (unsigned)device->in_mig_mode;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    FAIL_IF_TOLD(device);
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **handle) {
    FAIL_IF_TOLD(device);
    /* Every second place is empty, as after an instance was destroyed. */
    for (int i = 0, place = 0; i < num_devices; i++) {
        if (devices[i].parent != device - devices) continue;
        if (place == (int)index) {
            *handle = &devices[i];
            return SUCCESS;
        }
        place += 2;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetNvLinkState(Device *device, unsigned link, unsigned *active) {
    FAIL_IF_TOLD(device);
    if (!device->num_links) return NOT_SUPPORTED;
    if (link >= device->num_links) return INVALID_ARGUMENT;
    *active = device->links[link].version != 0; /* version 0: a link that is down */
    return SUCCESS;
}

int nvmlDeviceGetNvLinkVersion(Device *device, unsigned link, unsigned *version) {
    FAIL_IF_TOLD(device);
    *version = device->links[link].version;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(Device *device, unsigned link, unsigned *type) {
    FAIL_IF_TOLD(device);
    *type = device->links[link].to == TO_SWITCH ? 2 : 0;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(Device *device, unsigned link, PciInfo *pci) {
    FAIL_IF_TOLD(device);
    Device *remote;
    int code = nvmlDeviceGetHandleByIndex_v2((unsigned)device->links[link].to, &remote);
    if (!code) fill_address(remote, pci);
    return code;
}

int nvmlDeviceGetTopologyCommonAncestor(Device *first, Device *second, unsigned *common) {
    FAIL_IF_TOLD(first);
    *common = (unsigned)level[first->index][second->index];
    return SUCCESS;
}

int nvmlDeviceGetP2PStatus(Device *first, Device *second, unsigned capability, unsigned *status) {
    FAIL_IF_TOLD(first);
    (void)capability;
    *status = (unsigned)peer_status[first->index][second->index];
    return SUCCESS;
}
#endif
