/* Tells what a process does on its first thread, the one of its event loop, that may wait for a disk or for somebody:
 * preload it, and each such call is a line in a file.
 *
 *   WATCH_LOG    the file: "PID NAME SIZE PATH" a line
 *   WATCH_AFTER  lines are written when this file exists
 *   WATCH_BYTES  reads and writes of files from so many bytes on are told
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

static int watched(void) {
    const char *after = getenv("WATCH_AFTER");
    return getenv("WATCH_LOG") && gettid() == getpid() && (!after || access(after, F_OK) == 0);
}

static void tell(const char *name, long long size, int descriptor) {
    char link[64], path[PATH_MAX] = "-", line[PATH_MAX + 128];
    int before = errno;
    if (descriptor >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
    }
    int log = open(getenv("WATCH_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log >= 0) {
        int length = snprintf(line, sizeof line, "%d %s %lld %s\n", (int)getpid(), name, size, path);
        REAL(ssize_t, "write", int, const void *, size_t);
        if (length > 0) (void)!real(log, line, (size_t)length);
        close(log);
    }
    errno = before;
}

/* A big transfer from or to a file; pipes and sockets do not block, and say so themselves. */
static void tell_transfer(const char *name, size_t size, int descriptor) {
    struct stat status;
    const char *least = getenv("WATCH_BYTES");
    if ((long long)size < (least ? atoll(least) : 1) || !watched()) return;
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) tell(name, (long long)size, descriptor);
}

#define SYNC(name) \
    int name(int descriptor) { \
        REAL(int, #name, int); \
        if (watched()) tell(#name, 0, descriptor); \
        return real(descriptor); \
    }
SYNC(fsync)
SYNC(fdatasync)
SYNC(syncfs)

int flock(int descriptor, int operation) {
    REAL(int, "flock", int, int);
    if (!(operation & LOCK_NB) && !(operation & LOCK_UN) && watched()) tell("flock", 0, descriptor);
    return real(descriptor, operation);
}

#define ALLOCATE(name, offset_type) \
    int name(int descriptor, offset_type offset, offset_type size) { \
        REAL(int, #name, int, offset_type, offset_type); \
        if (watched()) tell(#name, (long long)size, descriptor); \
        return real(descriptor, offset, size); \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

#define TRANSFER(name, constant, offset_type) \
    ssize_t name(int descriptor, constant void *data, size_t size, offset_type offset) { \
        REAL(ssize_t, #name, int, constant void *, size_t, offset_type); \
        ssize_t done = real(descriptor, data, size, offset); \
        if (done > 0) tell_transfer(#name, (size_t)done, descriptor); \
        return done; \
    }
TRANSFER(pread, , off_t)
TRANSFER(pread64, , off64_t)
TRANSFER(pwrite, const, off_t)
TRANSFER(pwrite64, const, off64_t)

ssize_t read(int descriptor, void *data, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    ssize_t done = real(descriptor, data, size);
    if (done > 0) tell_transfer("read", (size_t)done, descriptor);
    return done;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    ssize_t done = real(descriptor, data, size);
    if (done > 0) tell_transfer("write", (size_t)done, descriptor);
    return done;
}

pid_t waitpid(pid_t process, int *status, int options) {
    REAL(pid_t, "waitpid", pid_t, int *, int);
    if (!(options & WNOHANG) && watched()) tell("waitpid", process, -1);
    return real(process, status, options);
}

int poll(struct pollfd *set, nfds_t count, int milliseconds) {
    REAL(int, "poll", struct pollfd *, nfds_t, int);
    if (milliseconds != 0 && watched()) tell("poll", milliseconds, count > 0 ? set[0].fd : -1);
    return real(set, count, milliseconds);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest) {
    REAL(int, "clock_nanosleep", clockid_t, int, const struct timespec *, struct timespec *);
    if (watched()) tell("sleep", 0, -1);
    return real(clock, flags, time, rest);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    REAL(int, "getaddrinfo", const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (watched()) tell("getaddrinfo", 0, -1);
    return real(node, service, hints, result);
}
