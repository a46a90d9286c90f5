#define _GNU_SOURCE
#include "pbs_map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pbs_error.h"

/*
 * One mapping as the signal handler sees it.  `sequence` is odd while base and length change, so
 * that the handler, which takes no lock, never pairs the base of one mapping with the length of
 * the next one in the same slot.  base is 0 in a free slot.
 */
struct slot {
    atomic_bool taken;
    atomic_uint sequence;
    atomic_uintptr_t base;
    atomic_size_t length;
    atomic_bool shrunk;
};

/* A touched page brings along others before it, behind what a pass has released. */
#define FAULT_AROUND (64u << 10)

static struct slot slots[PBS_MAP_LIMIT];
static atomic_size_t slots_used; /* no slot at or above this one was ever taken */
static atomic_size_t slots_free; /* where to look for a free one: as a rule, none below it */

static pthread_once_t install_once = PTHREAD_ONCE_INIT;
static int install_errno;
static struct sigaction previous;
static uintptr_t page_mask;

/* The slot whose mapping holds `address`, with its bounds, or NULL. */
static struct slot *find_slot(uintptr_t address, uintptr_t *out_base, uintptr_t *out_end)
{
    size_t used = atomic_load(&slots_used);
    for (size_t i = 0; i < used; i++) {
        struct slot *slot = &slots[i];
        unsigned before = atomic_load(&slot->sequence);
        uintptr_t base = atomic_load(&slot->base);
        size_t length = atomic_load(&slot->length);
        if (base == 0 || address < base || address - base >= length)
            continue;
        if ((before & 1) != 0 || atomic_load(&slot->sequence) != before)
            continue; /* changes right now, so it is not the mapping that is being read */
        *out_base = base;
        *out_end = base + length;
        return slot;
    }
    return NULL;
}

static bool any_mapping(void)
{
    size_t used = atomic_load(&slots_used);
    for (size_t i = 0; i < used; i++)
        if (atomic_load(&slots[i].base) != 0)
            return true;
    return false;
}

/* Put zeros from the page of `address` to the mapping's end.  Only async-signal-safe calls. */
static bool patch(uintptr_t address)
{
    uintptr_t base, end;
    struct slot *slot = find_slot(address, &base, &end);
    if (slot == NULL)
        return false;
    uintptr_t from = address & page_mask;
    atomic_store(&slot->shrunk, true);
    void *zeros = mmap((void *)from, end - from, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
    return zeros != MAP_FAILED;
}

/* Give up a signal that is not ours to whoever handled it before us. */
static void chain(int signum, siginfo_t *info, void *context)
{
    bool is_fault = info->si_code > 0;
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(signum, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signum);
    } else if (is_fault || previous.sa_handler == SIG_DFL) {
        /* A fault comes again when we return (and the kernel lets nobody ignore one). */
        struct sigaction standard = {.sa_handler = SIG_DFL};
        sigaction(SIGBUS, &standard, NULL);
        if (!is_fault)
            raise(SIGBUS);
    }
}

static void on_sigbus(int signum, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    if (info->si_code > 0) {
        if (!patch((uintptr_t)info->si_addr))
            chain(signum, info, context);
    } else if (info->si_code != SI_TKILL || info->si_pid != getpid() || !any_mapping()) {
        chain(signum, info, context);
    }
    /*
     * else: raise() in this process.  That is how a handler installed after ours (Python's
     * faulthandler) hands a fault on, without the address.  Returning lets the fault happen again,
     * now with the address and with us, whose disposition that handler has restored, first in line.
     */
    errno = saved_errno;
}

static void install(void)
{
    page_mask = ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    struct sigaction ours = {.sa_sigaction = on_sigbus,
                             .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, NULL, &previous) != 0 || sigaction(SIGBUS, &ours, NULL) != 0)
        install_errno = errno;
}

/* Take a free slot for a mapping that is about to be made. */
static int take_slot(size_t *out_slot)
{
    size_t first = atomic_load(&slots_free);
    for (size_t n = 0; n < PBS_MAP_LIMIT; n++) {
        size_t i = (first + n) % PBS_MAP_LIMIT;
        if (atomic_exchange(&slots[i].taken, true))
            continue;
        atomic_store(&slots_free, (i + 1) % PBS_MAP_LIMIT);
        size_t used = atomic_load(&slots_used);
        while (used <= i && !atomic_compare_exchange_weak(&slots_used, &used, i + 1))
            ;
        *out_slot = i;
        return PBS_OK;
    }
    return PBS_E_FULL;
}

static void set_slot(struct slot *slot, uintptr_t base, size_t length)
{
    atomic_fetch_add(&slot->sequence, 1);
    atomic_store(&slot->length, length);
    atomic_store(&slot->base, base);
    atomic_fetch_add(&slot->sequence, 1);
}

static void release_slot(size_t index)
{
    set_slot(&slots[index], 0, 0);
    atomic_store(&slots[index].taken, false);
    size_t first = atomic_load(&slots_free);
    while (index < first && !atomic_compare_exchange_weak(&slots_free, &first, index))
        ;
}

static int map_file(int fd, size_t length, struct pbs_map *out, int *out_errno)
{
    pthread_once(&install_once, install);
    if (install_errno != 0) {
        *out_errno = install_errno;
        return PBS_E_IO;
    }
    size_t index;
    int status = take_slot(&index);
    if (status != PBS_OK)
        return status;
    void *base = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        *out_errno = errno;
        release_slot(index);
        return PBS_E_IO;
    }
    atomic_store(&slots[index].shrunk, false);
    set_slot(&slots[index], (uintptr_t)base, length);
    *out = (struct pbs_map){.base = base, .length = length, .fd = fd, .slot = index};
    return PBS_OK;
}

static int map_descriptor(int fd, struct pbs_map *out, int *out_errno)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        *out_errno = errno;
        return PBS_E_IO;
    }
    if (!S_ISREG(info.st_mode))
        return PBS_E_NOT_REGULAR;
    if ((uintmax_t)info.st_size > (uintmax_t)PTRDIFF_MAX)
        return PBS_E_TOO_LARGE;
    if (info.st_size == 0) {
        *out = (struct pbs_map){.fd = fd};
        return PBS_OK;
    }
    return map_file(fd, (size_t)info.st_size, out, out_errno);
}

static int map_or_close(int fd, struct pbs_map *out, int *out_errno)
{
    int status = map_descriptor(fd, out, out_errno);
    if (status != PBS_OK)
        close(fd);
    return status;
}

int pbs_map_open(int dir_fd, const char *path, struct pbs_map *out, int *out_errno)
{
    /* O_NONBLOCK: a pipe in the place of a file must not make us wait for a writer. */
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        if (errno == ENOENT)
            return PBS_E_NOT_FOUND;
        if (errno == ELOOP || errno == ENXIO)
            return PBS_E_NOT_REGULAR; /* a symbolic link; a socket or device without a driver */
        *out_errno = errno;
        return PBS_E_IO;
    }
    return map_or_close(fd, out, out_errno);
}

int pbs_map_open_again(int fd, struct pbs_map *out, int *out_errno)
{
    int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own_fd < 0) {
        *out_errno = errno;
        return PBS_E_IO;
    }
    return map_or_close(own_fd, out, out_errno);
}

void pbs_map_close(struct pbs_map *map)
{
    if (map->base != NULL) {
        /* First out of the table: the address may be someone else's as soon as it is unmapped. */
        release_slot(map->slot);
        munmap((void *)(uintptr_t)map->base, map->length);
        map->base = NULL;
    }
    close(map->fd);
    map->fd = -1;
}

bool pbs_map_shrunk(const struct pbs_map *map)
{
    struct stat info;
    if (map->base != NULL && atomic_load(&slots[map->slot].shrunk))
        return true;
    return fstat(map->fd, &info) != 0 || (uintmax_t)info.st_size < (uintmax_t)map->length;
}

void pbs_map_release(const void *from, size_t length)
{
    uintptr_t base, end;
    uintptr_t start = (uintptr_t)from;
    struct slot *slot = find_slot(start, &base, &end);
    if (slot == NULL || atomic_load(&slot->shrunk))
        return;
    if (length < end - start)
        end = start + length;
    start = start - base > FAULT_AROUND ? (start - FAULT_AROUND) & page_mask : base;
    /* Only advice: where it fails, the pages stay.  The mapping is shared, so nothing is lost. */
    madvise((void *)start, end - start, MADV_DONTNEED);
}
