/*
 * Preloaded into a Python process: memory, mappings and threads that our extension modules ask for
 * fail when told to; Python's own do not. fail_from(n): the n-th from now on, once; 0: none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

static atomic_long first, calls;

void fail_from(long n)
{
    atomic_store(&calls, 0);
    atomic_store(&first, n);
}

int has_failed(void)
{
    return atomic_load(&first) > 0 && atomic_load(&calls) >= atomic_load(&first);
}

static int fails(const void *caller)
{
    Dl_info info;
    if (atomic_load(&first) == 0 || !dladdr(caller, &info) || !strstr(info.dli_fname, "/_native/"))
        return 0;
    return atomic_fetch_add(&calls, 1) + 1 == atomic_load(&first);
}

#define FAILS fails(__builtin_return_address(0))

void *malloc(size_t size)
{
    return FAILS ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return FAILS ? NULL : __libc_calloc(n, size);
}

void *realloc(void *memory, size_t size)
{
    return FAILS ? NULL : __libc_realloc(memory, size);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (!FAILS)
        return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return FAILS ? EAGAIN
                 : ((create *)dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, start, argument);
}
