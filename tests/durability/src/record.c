/* Loaded into a process before its C library (LD_PRELOAD): writes down, in their order, the calls that change the files of
   one directory, and what the process writes to its standard output. While a certain file exists, the disk is full:
   no file of the directory grows.

   RECORD_DIRECTORY  the directory, without a slash at its end
   RECORD_LOG        where to write to; nothing is written down without it
   RECORD_FULL       the file that fills the disk

   A record is: kind, length of name, length of data (u32), offset (u64), name, data; numbers little-endian. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;
static const char *directory, *full;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_open)(const char *, int, ...);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fsync)(int);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_open = dlsym(RTLD_NEXT, "open64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    directory = getenv("RECORD_DIRECTORY");
    full = getenv("RECORD_FULL");
    const char *log = getenv("RECORD_LOG");
    if (log) out = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The name within the directory, "." for itself; none for files elsewhere and for the index of the log, which no power cut
   spares. */
static const char *inside(const char *path) {
    size_t length = directory ? strlen(directory) : 0;
    if (!length || strncmp(path, directory, length)) return NULL;
    const char *name = path + length;
    if (!*name) return ".";
    if (*name != '/' || strstr(name, "-shm")) return NULL;
    return name + 1;
}

static const char *name_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX);
    if (length <= 0) return NULL;
    buffer[length] = 0;
    return inside(buffer);
}

static void note(char kind, const char *name, uint64_t offset, const void *data, uint32_t size) {
    if (out < 0) return;
    unsigned char head[14];
    head[0] = kind;
    head[1] = strlen(name);
    memcpy(head + 2, &size, 4);
    memcpy(head + 6, &offset, 8);
    struct iovec parts[3] = {{head, 14}, {(void *)name, head[1]}, {(void *)data, size}};
    if (writev(out, parts, 3) != (ssize_t)(14 + head[1] + size)) abort();
}

static int no_room(int fd, off64_t end) {
    struct stat64 now;
    if (!full || access(full, F_OK) || fstat64(fd, &now) || end <= now.st_size) return 0;
    errno = ENOSPC;
    return 1;
}

static ssize_t put(int fd, const void *data, size_t size, off64_t offset) {
    char buffer[PATH_MAX + 1];
    const char *name = fd == 1 ? "" : name_of(fd, buffer);
    if (!name) return offset < 0 ? real_write(fd, data, size) : real_pwrite(fd, data, size, offset);
    pthread_mutex_lock(&lock);
    off64_t at = fd == 1 ? 0 : offset < 0 ? lseek64(fd, 0, SEEK_CUR) : offset;
    ssize_t done = -1;
    if (fd == 1 || !no_room(fd, at + (off64_t)size)) {
        done = offset < 0 ? real_write(fd, data, size) : real_pwrite(fd, data, size, offset);
    }
    int error = errno;
    if (done > 0) note(fd == 1 ? 'A' : 'W', name, at, data, done);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return put(fd, data, size, offset); }

static int open_noting(const char *path, int flags, mode_t mode) {
    const char *name = flags & O_CREAT ? inside(path) : NULL;
    if (!name) return real_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    int fresh = access(path, F_OK);
    int fd = real_open(path, flags, mode);
    int error = errno;
    if (fd >= 0 && fresh) note('C', name, 0, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static mode_t mode_in(int flags, va_list rest) { return flags & O_CREAT ? va_arg(rest, mode_t) : 0; }

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_in(flags, rest);
    va_end(rest);
    return open_noting(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_in(flags, rest);
    va_end(rest);
    return open_noting(path, flags, mode);
}

static int cut(int fd, off64_t size) {
    char buffer[PATH_MAX + 1];
    const char *name = name_of(fd, buffer);
    if (!name) return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    int done = real_ftruncate(fd, size), error = errno;
    if (!done) note('T', name, size, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut(fd, size); }

static int sync_noting(int fd) {
    char buffer[PATH_MAX + 1];
    const char *name = name_of(fd, buffer);
    if (!name) return real_fsync(fd);
    pthread_mutex_lock(&lock);
    int done = real_fsync(fd), error = errno;
    if (!done) note('S', name, 0, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fsync(int fd) { return sync_noting(fd); }
int fdatasync(int fd) { return sync_noting(fd); }

int unlink(const char *path) {
    const char *name = inside(path);
    pthread_mutex_lock(&lock);
    int done = real_unlink(path), error = errno;
    if (!done && name) note('U', name, 0, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int rename(const char *from, const char *to) {
    const char *name = inside(from), *target = inside(to);
    pthread_mutex_lock(&lock);
    int done = real_rename(from, to), error = errno;
    if (!done && name && target) note('R', name, 0, target, strlen(target));
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
