/* A library to preload: calls for files below $HANG_BELOW block while the file $HANG_WHILE exists,
   as those of a file system do whose server is gone. Nothing but SIGKILL ends them earlier. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int hangs(void) {
    const char *flag = getenv("HANG_WHILE");
    return flag && syscall(SYS_faccessat, AT_FDCWD, flag, F_OK) == 0;
}

static int is_below(const char *path) {
    const char *folder = getenv("HANG_BELOW");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static void of_path(const char *path) {
    while (is_below(path) && hangs()) usleep(20000);
}

static void of_file(int fd) {
    char link[64], path[PATH_MAX];
    if (!hangs()) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    of_path(path);
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        int mode = va_arg(rest, int);                                                              \
        va_end(rest);                                                                              \
        of_path(path);                                                                             \
        return NEXT(int (*)(const char *, int, ...), #name)(path, flags, mode);                    \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                               \
    int name(int at, const char *path, int flags, ...) {                                           \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        int mode = va_arg(rest, int);                                                              \
        va_end(rest);                                                                              \
        of_path(path);                                                                             \
        return NEXT(int (*)(int, const char *, int, ...), #name)(at, path, flags, mode);           \
    }
OPENAT(openat)
OPENAT(openat64)

#define OF_PATH(type, name, parameters, arguments)                                                 \
    type name parameters {                                                                         \
        of_path(path);                                                                             \
        return NEXT(type(*) parameters, #name) arguments;                                          \
    }
OF_PATH(int, stat, (const char *path, struct stat *to), (path, to))
OF_PATH(int, stat64, (const char *path, struct stat64 *to), (path, to))
OF_PATH(int, lstat, (const char *path, struct stat *to), (path, to))
OF_PATH(int, lstat64, (const char *path, struct stat64 *to), (path, to))
OF_PATH(int, fstatat, (int at, const char *path, struct stat *to, int flags), (at, path, to, flags))
OF_PATH(int, fstatat64, (int at, const char *path, struct stat64 *to, int flags),
        (at, path, to, flags))
OF_PATH(int, statx, (int at, const char *path, int flags, unsigned mask, struct statx *to),
        (at, path, flags, mask, to))
OF_PATH(int, statvfs, (const char *path, void *to), (path, to))
OF_PATH(int, statvfs64, (const char *path, void *to), (path, to))
OF_PATH(void *, opendir, (const char *path), (path))
OF_PATH(int, mkdir, (const char *path, mode_t mode), (path, mode))
OF_PATH(int, rmdir, (const char *path), (path))
OF_PATH(int, unlink, (const char *path), (path))
OF_PATH(int, rename, (const char *path, const char *to), (path, to))

#define OF_FILE(type, name, parameters, arguments)                                                 \
    type name parameters {                                                                         \
        of_file(fd);                                                                               \
        return NEXT(type(*) parameters, #name) arguments;                                          \
    }
OF_FILE(int, fsync, (int fd), (fd))
OF_FILE(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size))
OF_FILE(ssize_t, pread64, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
OF_FILE(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
