/* A stand-in for libnvidia-ml.so.1, so that the real pynvml runs where there is no GPU.
 *
 * The file named by $FAKE_NVML says what each GPU answers, and is read anew at every call, one line a GPU:
 *
 *   UUID|name|energy_mj|power_mw|instant_mw|average_mw|utilisation_percent|mig|state[|module_mw[|limit_mw]]
 *
 * A value of "-" answers NVML_ERROR_NOT_SUPPORTED, "!" NVML_ERROR_UNKNOWN. State is "ok", or "lost": then every
 * question about that GPU answers NVML_ERROR_GPU_IS_LOST. An empty file means that the driver is not loaded.
 *
 * The file named by $FAKE_NVML_PARTS, if there is one, says what is on the GPUs:
 *
 *   mig|UUID of the board|UUID of the instance|compute slices     ("-" slices: NVML_ERROR_NOT_SUPPORTED)
 *   pid|UUID of the board or instance|process id
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, BAD = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, NOT_LOADED = 9, LOST = 15, UNKNOWN = 999 };
enum { UUID, NAME, ENERGY, POWER, INSTANT, AVERAGE, UTILISATION, MIG, STATE, MODULE, LIMIT, FIELDS };
enum { MAX_GPUS = 16, MAX_LINE = 512, UNSIGNED_INT = 1 };

typedef struct { char text[MAX_LINE]; const char *field[FIELDS]; } gpu_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned gpu, memory; } utilisation_t;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency_us;
    uint32_t type, status;
    union { double d; int32_t si; uint32_t ui; uint64_t ull; } value;
} field_value_t;

static gpu_t gpus[MAX_GPUS];

/* A handle is the GPU's place in the file, counted from 1. */
static unsigned load(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    unsigned n = 0;
    if (!file) return 0;
    while (n < MAX_GPUS && fgets(gpus[n].text, MAX_LINE, file)) {
        char *rest = gpus[n].text;
        int i;
        rest[strcspn(rest, "\n")] = 0;
        for (i = 0; i < FIELDS && rest; i++) gpus[n].field[i] = strsep(&rest, "|");
        while (i >= MODULE && i < FIELDS) gpus[n].field[i++] = "-";
        if (i == FIELDS) n++;
    }
    fclose(file);
    return n;
}

static int find(void *handle, gpu_t **gpu) {
    unsigned n = load(), place = (unsigned)(uintptr_t)handle;
    if (place < 1 || place > n) return BAD;
    *gpu = &gpus[place - 1];
    return strcmp((*gpu)->field[STATE], "lost") ? OK : LOST;
}

static int number(void *handle, int field, uint64_t *value) {
    gpu_t *gpu;
    int status = find(handle, &gpu);
    if (status) return status;
    if (!strcmp(gpu->field[field], "-")) return NOT_SUPPORTED;
    if (!strcmp(gpu->field[field], "!")) return UNKNOWN;
    *value = strtoull(gpu->field[field], NULL, 10);
    return OK;
}

static int number32(void *handle, int field, unsigned *value) {
    uint64_t wide = 0;
    int status = number(handle, field, &wide);
    if (!status) *value = (unsigned)wide;
    return status;
}

static int text(void *handle, int field, char *out, unsigned size) {
    gpu_t *gpu;
    int status = find(handle, &gpu);
    if (!status) snprintf(out, size, "%s", gpu->field[field]);
    return status;
}

/* MIG instances and processes. The handle of an instance is its place in the file of parts, after all GPUs. */
enum { MAX_PARTS = 64, PARTS = 4, FIRST_PART = 1000, TOO_SMALL = 7 };
typedef struct { char text[MAX_LINE]; char *field[PARTS]; } part_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned counts[6], gpu_slices, compute_slices; unsigned long long memory; } attributes_t;
static part_t parts[MAX_PARTS];

static unsigned load_parts(void) {
    const char *path = getenv("FAKE_NVML_PARTS");
    FILE *file = path ? fopen(path, "r") : NULL;
    unsigned n = 0;
    if (!file) return 0;
    while (n < MAX_PARTS && fgets(parts[n].text, MAX_LINE, file)) {
        char *rest = parts[n].text;
        rest[strcspn(rest, "\n")] = 0;
        for (int i = 0; i < PARTS; i++) parts[n].field[i] = rest ? strsep(&rest, "|") : "";
        n++;
    }
    fclose(file);
    return n;
}

static int is_part(void *handle) { return (uintptr_t)handle >= FIRST_PART; }
static part_t *part(void *handle) { return &parts[(uintptr_t)handle - FIRST_PART]; }
int nvmlDeviceGetUUID(void *gpu, char *out, unsigned size);

int nvmlInitWithFlags(unsigned flags) { (void)flags; return load() ? OK : NOT_LOADED; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int status) { (void)status; return "an error of the stand-in"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = load(); return OK; }
int nvmlDeviceGetName(void *gpu, char *out, unsigned size) { return text(gpu, NAME, out, size); }
int nvmlDeviceGetUUID(void *gpu, char *out, unsigned size) {
    if (!is_part(gpu)) return text(gpu, UUID, out, size);
    load_parts();
    snprintf(out, size, "%s", part(gpu)->field[2]);
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, uint64_t *mj) { return number(gpu, ENERGY, mj); }
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *mw) { return number32(gpu, POWER, mw); }
int nvmlDeviceGetPowerManagementLimit(void *gpu, unsigned *mw) { return number32(gpu, LIMIT, mw); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= load()) return BAD;
    *handle = (void *)(uintptr_t)(index + 1);
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    unsigned i, n = load();
    for (i = 0; i < n; i++)
        if (!strcmp(gpus[i].field[UUID], uuid)) {
            *handle = (void *)(uintptr_t)(i + 1);
            return strcmp(gpus[i].field[STATE], "lost") ? OK : LOST;
        }
    return NOT_FOUND;
}

/* The GPUs lie at 0000:01:00.0, 0000:02:00.0 ... */
int nvmlDeviceGetPciInfo_v3(void *gpu, pci_t *pci) {
    gpu_t *found;
    int status = find(gpu, &found);
    if (!status) snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", (unsigned)(uintptr_t)gpu);
    return status;
}

/* The device files are numbered the other way round: /dev/nvidia0 is the last GPU. */
int nvmlDeviceGetMinorNumber(void *gpu, unsigned *minor) {
    gpu_t *found;
    int status = find(gpu, &found);
    if (!status) *minor = load() - (unsigned)(uintptr_t)gpu;
    return status;
}

int nvmlDeviceGetUtilizationRates(void *gpu, utilisation_t *rates) {
    rates->memory = 0;
    return number32(gpu, UTILISATION, &rates->gpu);
}

int nvmlDeviceGetMigMode(void *gpu, unsigned *current, unsigned *pending) {
    int status = number32(gpu, MIG, current);
    if (!status) *pending = *current;
    return status;
}

int nvmlDeviceGetFieldValues(void *gpu, int count, field_value_t *values) {
    for (int i = 0; i < count; i++) {
        int field = values[i].field == 186 ? INSTANT : values[i].field == 185 ? AVERAGE : -1;
        if (values[i].scope == 1) field = field == INSTANT ? MODULE : -1;
        values[i].type = UNSIGNED_INT;
        values[i].status = field < 0 ? NOT_SUPPORTED : (uint32_t)number32(gpu, field, &values[i].value.ui);
        if (values[i].status == LOST) return LOST;
    }
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *gpu, unsigned *count) {
    gpu_t *found;
    int status = find(gpu, &found);
    *count = 7;
    return status;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *gpu, unsigned index, void **instance) {
    char uuid[MAX_LINE];
    unsigned n = load_parts(), seen = 0;
    int status = nvmlDeviceGetUUID(gpu, uuid, sizeof uuid);
    if (status) return status;
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(parts[i].field[0], "mig") && !strcmp(parts[i].field[1], uuid) && seen++ == index) {
            *instance = (void *)(uintptr_t)(FIRST_PART + i);
            return OK;
        }
    return NOT_FOUND;
}

/* The id of an instance is the number at the end of its UUID; without one, NVML_ERROR_NOT_SUPPORTED. */
int nvmlDeviceGetGpuInstanceId(void *instance, unsigned *id) {
    const char *digits;
    load_parts();
    if (!is_part(instance)) return NOT_SUPPORTED;
    digits = strrchr(part(instance)->field[2], '-');
    return digits && sscanf(digits, "-%u", id) == 1 ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetAttributes_v2(void *instance, attributes_t *attributes) {
    load_parts();
    if (!is_part(instance) || !strcmp(part(instance)->field[3], "-")) return NOT_SUPPORTED;
    memset(attributes, 0, sizeof *attributes);
    attributes->compute_slices = (unsigned)strtoul(part(instance)->field[3], NULL, 10);
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *found) {
    char uuid[MAX_LINE];
    unsigned room = *count, n;
    int status = nvmlDeviceGetUUID(device, uuid, sizeof uuid);
    if (status) return status;
    n = load_parts();
    *count = 0;
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(parts[i].field[0], "pid") && !strcmp(parts[i].field[1], uuid)) {
            if (*count < room && found) {
                memset(&found[*count], 0, sizeof *found);
                found[*count].pid = (unsigned)strtoul(parts[i].field[2], NULL, 10);
            }
            ++*count;
        }
    return *count > room ? TOO_SMALL : OK;
}
