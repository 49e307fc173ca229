/* A disk that fails, for tests: preload it, and writes and syncs below one directory fail as told.
 *
 *   FAULT_DIRECTORY  files below it are concerned, others are not
 *   FAULT_OPERATION  "write" or "sync": the FAULT_NTH (from 1) on a database file fails with EIO, later ones succeed
 *   FAULT_AFTER      counting begins when this file exists; without it, at once
 *   FAULT_QUOTA      a file that holds a number: writes that would make the files below the directory larger than so many
 *                    bytes together fail with ENOSPC; read again at each write, so that a test can make room
 *   FAULT_MARK       a file that is created when a fault was injected
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long count_of(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int concerned(int descriptor, const char *name) {
    char link[64], path[PATH_MAX];
    const char *directory = getenv("FAULT_DIRECTORY");
    if (!directory) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(directory);
    return strncmp(path, directory, prefix) == 0 && path[prefix] == '/' && strstr(path + prefix, name) != NULL;
}

static void mark(void) {
    const char *path = getenv("FAULT_MARK");
    if (path) {
        int descriptor = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (descriptor >= 0) close(descriptor);
    }
}

/* Whether this write or sync is the one that fails. */
static int fails(const char *operation, int descriptor) {
    static long writes, syncs;
    const char *wanted = getenv("FAULT_OPERATION");
    if (!wanted || strcmp(wanted, operation) != 0 || !concerned(descriptor, "log.sqlite")) return 0;
    const char *after = getenv("FAULT_AFTER");
    if (after && access(after, F_OK) != 0) return 0;
    long *seen = operation[0] == 'w' ? &writes : &syncs;
    if (__sync_add_and_fetch(seen, 1) != count_of("FAULT_NTH")) return 0;
    mark();
    return 1;
}

static long long used(void) {
    long long total = 0;
    struct stat status;
    DIR *directory = opendir(getenv("FAULT_DIRECTORY"));
    if (!directory) return 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (fstatat(dirfd(directory), entry->d_name, &status, 0) == 0 && S_ISREG(status.st_mode)
            && !strstr(entry->d_name, "-shm"))
            total += status.st_size;
    closedir(directory);
    return total;
}

/* Whether growing the file to `end` bytes goes over the quota. */
static int full(int descriptor, long long end) {
    const char *path = getenv("FAULT_QUOTA");
    struct stat status;
    char text[32] = {0};
    if (!path || !concerned(descriptor, "") || fstat(descriptor, &status) != 0 || end <= status.st_size) return 0;
    int control = open(path, O_RDONLY | O_CLOEXEC);
    if (control < 0) return 0;
    ssize_t length = read(control, text, sizeof text - 1);
    close(control);
    if (length <= 0) return 0;
    if (used() + end - status.st_size <= atoll(text)) return 0;
    mark();
    return 1;
}

#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)
#define FAIL(number) do { errno = number; return -1; } while (0)

#define PWRITE(name, offset_type) \
    ssize_t name(int descriptor, const void *data, size_t size, offset_type offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type); \
        if (fails("write", descriptor)) FAIL(EIO); \
        if (full(descriptor, (long long)offset + (long long)size)) FAIL(ENOSPC); \
        return real(descriptor, data, size, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (fails("write", descriptor)) FAIL(EIO);
    if (getenv("FAULT_QUOTA") && full(descriptor, lseek(descriptor, 0, SEEK_CUR) + (long long)size)) FAIL(ENOSPC);
    return real(descriptor, data, size);
}

#define TRUNCATE(name, offset_type) \
    int name(int descriptor, offset_type size) { \
        REAL(int, #name, int, offset_type); \
        if (fails("write", descriptor)) FAIL(EIO); \
        return real(descriptor, size); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name) \
    int name(int descriptor) { \
        REAL(int, #name, int); \
        if (fails("sync", descriptor)) FAIL(EIO); \
        return real(descriptor); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define ALLOCATE(name, offset_type) \
    int name(int descriptor, offset_type offset, offset_type size) { \
        REAL(int, #name, int, offset_type, offset_type); \
        if (full(descriptor, (long long)offset + (long long)size)) return ENOSPC; \
        return real(descriptor, offset, size); \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)
