/*
 * Lets system calls on files below some path fail, as a disk does: preloaded (LD_PRELOAD) into a
 * process, and told what to do by a control file that both sides map.  For tests only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { OPEN = 1, READ = 2, WRITE = 4 };

struct control {
    _Atomic uint32_t calls;  /* which kinds fail; 0: none */
    _Atomic int32_t code;    /* with this errno */
    _Atomic int32_t pass;    /* after so many that pass */
    _Atomic uint32_t times;  /* so often */
    _Atomic uint32_t struck; /* how many have failed */
    char path[1000];         /* what their path holds */
};

static struct control *control;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAILING_CALLS");
    if (name == NULL)
        return;
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = real_open(name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        control = at;
}

static int fails(unsigned kind, const char *path)
{
    if (control == NULL || (control->calls & kind) == 0 || strstr(path, control->path) == NULL)
        return 0;
    if (atomic_fetch_sub(&control->pass, 1) > 0)
        return 0;
    if (control->times == 0)
        return 0;
    control->times--;
    control->struck++;
    errno = control->code;
    return 1;
}

static int fails_at(unsigned kind, int fd, const char *name)
{
    char link[64], path[4096];
    if (control == NULL || (control->calls & kind) == 0)
        return 0;
    path[0] = 0;
    if (name == NULL || name[0] != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = fd == AT_FDCWD ? -1 : readlink(link, path, sizeof path / 2);
        path[n < 0 ? 0 : n] = 0;
        if (name != NULL)
            strcat(path, "/");
    }
    if (name != NULL && strlen(name) < sizeof path / 2)
        strcat(path, name);
    return fails(kind, path);
}

#define MODE(flags, mode)                  \
    mode_t mode = 0;                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more;                      \
        va_start(more, flags);             \
        mode = va_arg(more, mode_t);       \
        va_end(more);                      \
    }

#define WRAP_OPEN(NAME)                                                       \
    int NAME(const char *path, int flags, ...)                                \
    {                                                                         \
        MODE(flags, mode)                                                     \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #NAME);        \
        return fails_at(OPEN, AT_FDCWD, path) ? -1 : real(path, flags, mode); \
    }

#define WRAP_OPENAT(NAME)                                                     \
    int NAME(int dir, const char *path, int flags, ...)                       \
    {                                                                         \
        MODE(flags, mode)                                                     \
        int (*real)(int, const char *, int, ...) = dlsym(RTLD_NEXT, #NAME);   \
        return fails_at(OPEN, dir, path) ? -1 : real(dir, path, flags, mode); \
    }

/* Chunks are opened by openat2, for which the C library has no function. */
long syscall(long number, ...)
{
    long given[6];
    va_list more;
    va_start(more, number);
    for (int i = 0; i < 6; i++)
        given[i] = va_arg(more, long);
    va_end(more);
    long (*real)(long, ...) = dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_openat2 && fails_at(OPEN, (int)given[0], (const char *)given[1]))
        return -1;
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

#define WRAP_IO(NAME, KIND, BUFFER, PARAMETERS, ...)                               \
    ssize_t NAME(int fd, BUFFER data, size_t n PARAMETERS)                         \
    {                                                                              \
        ssize_t (*real)(int, BUFFER, size_t PARAMETERS) = dlsym(RTLD_NEXT, #NAME); \
        return fails_at(KIND, fd, NULL) ? -1 : real(fd, data, n __VA_ARGS__);      \
    }

#define NOTHING
#define AT , off_t at

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)
WRAP_IO(read, READ, void *, NOTHING)
WRAP_IO(pread, READ, void *, AT, , at)
WRAP_IO(pread64, READ, void *, AT, , at)
WRAP_IO(write, WRITE, const void *, NOTHING)
WRAP_IO(pwrite, WRITE, const void *, AT, , at)
WRAP_IO(pwrite64, WRITE, const void *, AT, , at)
