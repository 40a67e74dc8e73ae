/* Preloaded into one process: a disk without room for some paths, and a clock that was set.

   FAULT_PATH        writes to files whose path contains it fail with ENOSPC,
   FAULT_WHEN        from the moment that this file exists (unset: from the start),
   FAULT_CLOCK_S     is added to the wall clock; the monotonic clocks go on as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int is_full(int descriptor) {
    const char *part = getenv("FAULT_PATH"), *when = getenv("FAULT_WHEN");
    char link[64], path[4096];
    int saved = errno;
    if (!part || (when && access(when, F_OK) != 0)) {
        errno = saved;
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REFUSE(descriptor) if (is_full(descriptor)) { errno = ENOSPC; return -1; }

ssize_t write(int d, const void *b, size_t n) { REFUSE(d) return REAL(write)(d, b, n); }
ssize_t pwrite64(int d, const void *b, size_t n, off64_t o) { REFUSE(d) return REAL(pwrite64)(d, b, n, o); }
ssize_t writev(int d, const struct iovec *v, int n) { REFUSE(d) return REAL(writev)(d, v, n); }
int fsync(int d) { REFUSE(d) return REAL(fsync)(d); }
int ftruncate64(int d, off64_t n) { REFUSE(d) return REAL(ftruncate64)(d, n); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    const char *shift = getenv("FAULT_CLOCK_S");
    if (result == 0 && shift && clock == CLOCK_REALTIME) now->tv_sec += atol(shift);
    return result;
}
