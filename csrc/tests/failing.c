#define _GNU_SOURCE
#include "failing.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

struct failing failing;

void failing_from(long first, long last)
{
    failing.first = first;
    failing.last = last;
    atomic_store(&failing.calls, 0);
}

int failing_has(void)
{
    return failing.first > 0 && atomic_load(&failing.calls) >= failing.first;
}

static int fails(void)
{
    long call = atomic_fetch_add(&failing.calls, 1) + 1;
    return failing.first > 0 && call >= failing.first && call <= failing.last;
}

/* Each stands for the function of the C library that it is named after. */

void *failing_malloc(size_t size);
void *failing_calloc(size_t n, size_t size);
void *failing_realloc(void *memory, size_t size);
char *failing_strdup(const char *text);
void *failing_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int failing_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                           void *(*start)(void *), void *argument);
int failing_eventfd(unsigned initial, int flags);

void *failing_malloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

void *failing_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

void *failing_realloc(void *memory, size_t size)
{
    return fails() ? NULL : realloc(memory, size);
}

char *failing_strdup(const char *text)
{
    return fails() ? NULL : strdup(text);
}

void *failing_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (!fails())
        return mmap(address, length, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

int failing_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                           void *(*start)(void *), void *argument)
{
    return fails() ? EAGAIN : pthread_create(thread, attributes, start, argument);
}

int failing_eventfd(unsigned initial, int flags)
{
    if (!fails())
        return eventfd(initial, flags);
    errno = EMFILE;
    return -1;
}
