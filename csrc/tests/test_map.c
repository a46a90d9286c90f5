#define _GNU_SOURCE
#include "pbs_map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "pbs_error.h"

static char directory[] = "/tmp/pbs-test-map-XXXXXX";
static int directory_fd;
static size_t page;

static void write_file(const char *name, size_t length)
{
    int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    uint8_t *content = allocate(length);
    memset(content, 0xab, length);
    CHECK(fd >= 0 && write(fd, content, length) == (ssize_t)length && close(fd) == 0);
    free(content);
}

static void cut_file(const char *name, size_t length)
{
    int fd = openat(directory_fd, name, O_WRONLY);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)length) == 0 && close(fd) == 0);
}

static struct pbs_map open_file(const char *name)
{
    struct pbs_map map;
    int reason = 0;
    CHECK_EQUAL(pbs_map_open(directory_fd, name, &map, &reason), PBS_OK);
    return map;
}

static int status_of(const char *name, int *out_errno)
{
    struct pbs_map map;
    return pbs_map_open(directory_fd, name, &map, out_errno);
}

static uint8_t read_byte(const struct pbs_map *map, size_t at)
{
    return *(const volatile uint8_t *)(map->base + at);
}

static void content_is_seen(void)
{
    write_file("f", 3 * page + 5);
    struct pbs_map map = open_file("f");
    CHECK(map.length == 3 * page + 5);
    CHECK(read_byte(&map, 0) == 0xab && read_byte(&map, map.length - 1) == 0xab);
    CHECK(!pbs_map_shrunk(&map));
    pbs_map_close(&map);
    write_file("f", 0);
    map = open_file("f");
    CHECK(map.length == 0 && map.base == NULL && !pbs_map_shrunk(&map));
    pbs_map_close(&map);
}

static void a_file_without_a_name_is_mapped(void)
{
    int reason = 0;
    struct pbs_map map;
    write_file("n", 5);
    int fd = openat(directory_fd, "n", O_RDONLY);
    CHECK(unlinkat(directory_fd, "n", 0) == 0);
    CHECK_EQUAL(pbs_map_open_again(fd, &map, &reason), PBS_OK);
    CHECK(close(fd) == 0);
    CHECK(map.length == 5 && read_byte(&map, 4) == 0xab && !pbs_map_shrunk(&map));
    pbs_map_close(&map);
    CHECK_EQUAL(pbs_map_open_again(fd, &map, &reason), PBS_E_IO);
    CHECK_EQUAL(reason, EBADF);
    CHECK_EQUAL(pbs_map_open_again(directory_fd, &map, &reason), PBS_E_NOT_REGULAR);
}

static void only_regular_files_are_mapped(void)
{
    int reason = 0;
    CHECK_EQUAL(status_of("absent", &reason), PBS_E_NOT_FOUND);
    CHECK(mkdirat(directory_fd, "d", 0700) == 0);
    CHECK_EQUAL(status_of("d", &reason), PBS_E_NOT_REGULAR);
    CHECK(mkfifoat(directory_fd, "p", 0600) == 0);
    CHECK_EQUAL(status_of("p", &reason), PBS_E_NOT_REGULAR);
    CHECK(symlinkat("f", directory_fd, "l") == 0);
    CHECK_EQUAL(status_of("l", &reason), PBS_E_NOT_REGULAR);
    CHECK_EQUAL(reason, 0);
    CHECK_EQUAL(status_of("f/below", &reason), PBS_E_IO);
    CHECK_EQUAL(reason, ENOTDIR);
}

static void lost_pages_read_as_zeros(void)
{
    write_file("f", 10 * page);
    struct pbs_map map = open_file("f");
    struct pbs_map other = open_file("f");
    cut_file("f", 4 * page);
    CHECK(pbs_map_shrunk(&map)); /* by its length, before anything was touched */
    CHECK(read_byte(&map, 7 * page) == 0);
    CHECK(read_byte(&map, 4 * page) == 0);
    CHECK(read_byte(&map, 4 * page - 1) == 0xab);
    CHECK(read_byte(&map, 10 * page - 1) == 0);
    cut_file("f", 10 * page); /* as long as it was: only the touched mapping can know */
    CHECK(pbs_map_shrunk(&map));
    CHECK(!pbs_map_shrunk(&other));
    pbs_map_close(&map);
    pbs_map_close(&other);
    map = open_file("f");
    CHECK(!pbs_map_shrunk(&map)); /* the slot is used again, the flag is not */
    pbs_map_close(&map);
}

/* How many pages of a range are this process's memory now. */
static size_t resident(const struct pbs_map *map)
{
    size_t start, n = 0;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    char line[512];
    int inside = 0;
    CHECK(smaps != NULL);
    while (fgets(line, sizeof line, smaps) != NULL) {
        char *after;
        start = strtoul(line, &after, 16);
        if (*after == '-')
            inside = start == (size_t)map->base;
        else if (inside && sscanf(line, "Rss: %zu kB", &n) == 1)
            break;
    }
    fclose(smaps);
    return n * 1024 / page;
}

static void touch(const struct pbs_map *map, size_t from, size_t to)
{
    for (size_t at = from; at < to; at += page)
        CHECK(read_byte(map, at) == 0xab);
}

static void released_pages_go_and_come_again(void)
{
    const size_t pages = 4000;
    write_file("f", pages * page);
    struct pbs_map map = open_file("f");
    touch(&map, 0, map.length);
    CHECK_EQUAL(resident(&map), pages);
    pbs_map_release(map.base + 500 * page + 1, 200 * page);
    CHECK(resident(&map) <= pages - 200 && resident(&map) >= 2000); /* some around go along */
    pbs_map_release(map.base + (pages - 1) * page, SIZE_MAX);       /* never beyond the end */
    touch(&map, 0, map.length);
    pbs_map_release(map.base, map.length);
    CHECK_EQUAL(resident(&map), 0);
    for (size_t at = 0; at < pages; at += 50) { /* a pass, released behind itself */
        touch(&map, at * page, (at + 50) * page);
        pbs_map_release(map.base + at * page, 50 * page);
        CHECK(resident(&map) <= 1024); /* the page cache may hold, and map, 512 pages as one */
    }
    pbs_map_close(&map);
}

static void what_is_not_ours_is_not_released(void)
{
    uint8_t *memory = allocate(100 * page);
    memset(memory, 0xcd, 100 * page);
    write_file("f", 10 * page);
    struct pbs_map map = open_file("f");
    const uint8_t *base = map.base;
    pbs_map_release(memory, 100 * page);
    pbs_map_close(&map);
    pbs_map_release(base, 10 * page); /* unmapped: nothing is known there any more */
    for (size_t at = 0; at < 100 * page; at++)
        CHECK(memory[at] == 0xcd);
    free(memory);
}

static void zeros_of_lost_pages_stay(void)
{
    write_file("f", 10 * page);
    struct pbs_map map = open_file("f");
    cut_file("f", 4 * page);
    CHECK(read_byte(&map, 7 * page) == 0);
    pbs_map_release(map.base, map.length);
    cut_file("f", 10 * page);
    CHECK(read_byte(&map, 7 * page) == 0 && read_byte(&map, 3 * page) == 0xab);
    CHECK(pbs_map_shrunk(&map));
    pbs_map_close(&map);
}

static atomic_bool stop;

static void *read_all(void *argument)
{
    const struct pbs_map *map = argument;
    do {
        for (size_t at = 0; at < map->length; at += page)
            CHECK(read_byte(map, at) == 0 || read_byte(map, at) == 0xab || pbs_map_shrunk(map));
    } while (!atomic_load(&stop));
    return NULL;
}

static void *open_and_close(void *argument)
{
    (void)argument;
    while (!atomic_load(&stop)) {
        struct pbs_map maps[3];
        for (size_t i = 0; i < 3; i++)
            maps[i] = open_file(i == 1 ? "g" : "h");
        for (size_t i = 0; i < 3; i++) {
            CHECK(read_byte(&maps[i], 0) == 0xcd || read_byte(&maps[i], 0) == 0xab);
            pbs_map_close(&maps[i]);
        }
    }
    return NULL;
}

static void threads_survive_cuts_while_others_map(void)
{
    pthread_t readers[3], mappers[2];
    write_file("g", 2 * page);
    write_file("h", 5 * page);
    for (int round = 0; round < 30; round++) {
        write_file("f", 64 * page);
        struct pbs_map map = open_file("f");
        atomic_store(&stop, false);
        for (size_t i = 0; i < 3; i++)
            CHECK(pthread_create(&readers[i], NULL, read_all, &map) == 0);
        for (size_t i = 0; i < 2; i++)
            CHECK(pthread_create(&mappers[i], NULL, open_and_close, NULL) == 0);
        for (size_t length = 64 * page; length > 0; length -= 8 * page)
            cut_file("f", length - 8 * page);
        atomic_store(&stop, true);
        for (size_t i = 0; i < 3; i++)
            CHECK(pthread_join(readers[i], NULL) == 0);
        for (size_t i = 0; i < 2; i++)
            CHECK(pthread_join(mappers[i], NULL) == 0);
        CHECK(pbs_map_shrunk(&map) && read_byte(&map, 0) == 0);
        pbs_map_close(&map);
    }
}

static void a_forked_child_survives_too(void)
{
    write_file("f", 4 * page);
    struct pbs_map map = open_file("f");
    cut_file("f", 0);
    pid_t child = fork();
    if (child == 0)
        _exit(read_byte(&map, page) == 0 && pbs_map_shrunk(&map) ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(read_byte(&map, page) == 0);
    pbs_map_close(&map);
}

static void the_table_has_an_end(void)
{
    static struct pbs_map maps[PBS_MAP_LIMIT];
    write_file("f", 10);
    for (size_t i = 0; i < PBS_MAP_LIMIT; i++) {
        maps[i] = open_file("f");
        CHECK(close(maps[i].fd) == 0); /* so many files may not be open */
        maps[i].fd = -1;
    }
    int reason = 0;
    CHECK_EQUAL(status_of("f", &reason), PBS_E_FULL);
    for (size_t i = 7; i < PBS_MAP_LIMIT; i += 1000) {
        pbs_map_close(&maps[i]);
        maps[i] = open_file("f");
        CHECK_EQUAL(status_of("f", &reason), PBS_E_FULL);
    }
    for (size_t i = 0; i < PBS_MAP_LIMIT; i++)
        pbs_map_close(&maps[i]);
    maps[0] = open_file("f");
    CHECK_EQUAL(maps[0].slot, 0); /* the signal handler looks at few */
    pbs_map_close(&maps[0]);
}

/* A page of a file mapped behind our back, whose loss is not ours to mend. */
static const volatile uint8_t *foreign_lost_page(void)
{
    write_file("foreign", page);
    int fd = openat(directory_fd, "foreign", O_RDONLY);
    void *base = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(fd >= 0 && base != MAP_FAILED && close(fd) == 0);
    cut_file("foreign", 0);
    return base;
}

static volatile sig_atomic_t earlier_calls;

static void earlier_handler(int signum)
{
    (void)signum;
    earlier_calls = earlier_calls + 1;
    _exit(42);
}

static void set_handler(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
}

/* How a child ends that runs `body` before it has mapped anything: -signal or the exit status. */
static int end_of_child(void (*body)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void foreign_fault(void)
{
    write_file("f", page);
    struct pbs_map map = open_file("f");
    CHECK(read_byte(&map, 0) == 0xab);
    _exit(*foreign_lost_page());
}

static void foreign_fault_by_default(void)
{
    set_handler(SIG_DFL, 0);
    foreign_fault();
}

static void foreign_fault_ignored(void)
{
    set_handler(SIG_IGN, 0);
    foreign_fault();
}

static void foreign_fault_with_earlier_handler(void)
{
    set_handler(earlier_handler, 0);
    foreign_fault();
}

static void signal_from_another_process(void)
{
    set_handler(SIG_DFL, 0);
    write_file("f", page);
    struct pbs_map map = open_file("f");
    kill(getpid(), SIGBUS);
    pbs_map_close(&map);
}

static void raised_without_a_mapping(void)
{
    set_handler(SIG_DFL, 0);
    write_file("f", page);
    struct pbs_map map = open_file("f");
    pbs_map_close(&map);
    raise(SIGBUS);
}

/* What faulthandler does: say something, restore what was before, hand the signal on. */
static struct sigaction before_later;

static void later_handler(int signum)
{
    sigaction(signum, &before_later, NULL);
    raise(signum);
}

static void handler_installed_later(void)
{
    set_handler(SIG_DFL, 0);
    write_file("f", 2 * page);
    struct pbs_map map = open_file("f");
    struct sigaction later = {.sa_handler = later_handler, .sa_flags = SA_NODEFER};
    CHECK(sigaction(SIGBUS, &later, &before_later) == 0);
    cut_file("f", 0);
    _exit(read_byte(&map, page) == 0 && pbs_map_shrunk(&map) ? 7 : 1);
}

static void foreign_fault_with_handler_installed_later(void)
{
    set_handler(SIG_DFL, 0);
    write_file("f", 2 * page);
    struct pbs_map map = open_file("f");
    struct sigaction later = {.sa_handler = later_handler, .sa_flags = SA_NODEFER};
    CHECK(map.base != NULL && sigaction(SIGBUS, &later, &before_later) == 0);
    _exit(*foreign_lost_page());
}

static void other_faults_go_to_whoever_had_them(void)
{
    CHECK_EQUAL(end_of_child(foreign_fault_by_default), -SIGBUS);
    CHECK_EQUAL(end_of_child(foreign_fault_ignored), -SIGBUS);
    CHECK_EQUAL(end_of_child(foreign_fault_with_earlier_handler), 42);
    CHECK_EQUAL(end_of_child(signal_from_another_process), -SIGBUS);
    CHECK_EQUAL(end_of_child(raised_without_a_mapping), -SIGBUS);
    CHECK_EQUAL(end_of_child(handler_installed_later), 7);
    CHECK_EQUAL(end_of_child(foreign_fault_with_handler_installed_later), -SIGBUS);
}

static void clean_up(void)
{
    const char *names[] = {"f", "g", "h", "p", "l", "foreign"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlinkat(directory_fd, names[i], 0);
    unlinkat(directory_fd, "d", AT_REMOVEDIR);
    close(directory_fd);
    rmdir(directory);
}

int main(void)
{
    CHECK(mkdtemp(directory) != NULL);
    directory_fd = open(directory, O_RDONLY | O_DIRECTORY);
    page = (size_t)sysconf(_SC_PAGESIZE);
    RUN(other_faults_go_to_whoever_had_them); /* first: its children install the handler anew */
    RUN(content_is_seen);
    RUN(a_file_without_a_name_is_mapped);
    RUN(only_regular_files_are_mapped);
    RUN(lost_pages_read_as_zeros);
    RUN(released_pages_go_and_come_again);
    RUN(what_is_not_ours_is_not_released);
    RUN(zeros_of_lost_pages_stay);
    RUN(threads_survive_cuts_while_others_map);
    RUN(a_forked_child_survives_too);
    RUN(the_table_has_an_end);
    clean_up();
    return 0;
}
