// Preloaded into the program: writes and syncs of the state wait as long as the file that HANG names is there, as on a disk that hangs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void hold(int fd) {
    char link[64], path[512];
    const char *hang = getenv("HANG");
    if (!hang || access(hang, F_OK))
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return;
    path[length] = 0;
    while (strstr(path, "meridian.db") && !access(hang, F_OK))
        usleep(50000);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name); \
    hold(fd)

ssize_t pwrite64(int fd, const void *octets, size_t length, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return real(fd, octets, length, at);
}

ssize_t pwrite(int fd, const void *octets, size_t length, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return real(fd, octets, length, at);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return real(fd);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return real(fd);
}
