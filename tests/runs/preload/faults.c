/* Preloaded into one process: a disk without room for some paths, and a clock that was set.

   FAULT_PATH        writes to files whose path contains it fail with ENOSPC,
   FAULT_WHEN        from the moment that this file exists (unset: from the start),
   FAULT_ERRNO       with this error instead, and nothing there can be made, opened to be written, renamed or removed: a
                     drive that is read-only (30), or one whose permissions allow nothing (13),
   FAULT_CLOCK_S     is added to the wall clock; the monotonic clocks go on as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int is_time(void) {
    const char *when = getenv("FAULT_WHEN");
    int saved = errno, now = getenv("FAULT_PATH") && (!when || access(when, F_OK) == 0);
    errno = saved;
    return now;
}

static int is_full(int descriptor) {
    const char *part = getenv("FAULT_PATH");
    char link[64], path[4096];
    int saved = errno;
    if (!is_time()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REFUSE(descriptor) if (is_full(descriptor)) { errno = code() ? code() : ENOSPC; return -1; }

static int code(void) {
    const char *number = getenv("FAULT_ERRNO");
    return number ? atoi(number) : 0;
}

/* Whether a name, below a folder's descriptor or not, may not be changed. */
static int is_fixed(int folder, const char *name) {
    const char *when = getenv("FAULT_WHEN");
    if (!code() || !name || !is_time() || (when && strcmp(name, when) == 0)) return 0;
    if (strstr(name, getenv("FAULT_PATH"))) return 1;
    return name[0] != '/' && folder >= 0 && is_full(folder);
}

#define FIX(folder, name) if (is_fixed(folder, name)) { errno = code(); return -1; }
#define MODE mode_t mode = 0; if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

int open(const char *n, int flags, ...) { MODE if (CHANGES(flags)) FIX(-1, n) return REAL(open)(n, flags, mode); }
int open64(const char *n, int flags, ...) { MODE if (CHANGES(flags)) FIX(-1, n) return REAL(open64)(n, flags, mode); }
int openat(int d, const char *n, int flags, ...) { MODE if (CHANGES(flags)) FIX(d, n) return REAL(openat)(d, n, flags, mode); }
int openat64(int d, const char *n, int flags, ...) { MODE if (CHANGES(flags)) FIX(d, n) return REAL(openat64)(d, n, flags, mode); }
int mkdir(const char *n, mode_t mode) { FIX(-1, n) return REAL(mkdir)(n, mode); }
int rename(const char *a, const char *b) { FIX(-1, a) FIX(-1, b) return REAL(rename)(a, b); }
int renameat(int c, const char *a, int d, const char *b) { FIX(c, a) FIX(d, b) return REAL(renameat)(c, a, d, b); }
int unlink(const char *n) { FIX(-1, n) return REAL(unlink)(n); }
int unlinkat(int d, const char *n, int flags) { FIX(d, n) return REAL(unlinkat)(d, n, flags); }
int rmdir(const char *n) { FIX(-1, n) return REAL(rmdir)(n); }

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
