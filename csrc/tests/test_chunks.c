#define _GNU_SOURCE
#include "pbs_chunks.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "pbs_error.h"
#include "store.h"

static uint64_t seed = 20261125;
static struct store store;
static uint8_t digest[32];

static int open_chunk(int *fd, size_t *size)
{
    int error = 0;
    *fd = -77;
    *size = 77;
    int status = pbs_chunk_open(store.fd, digest, fd, size, &error);
    CHECK(status == PBS_OK || (*fd == -77 && *size == 77));
    return status;
}

/* Open and read; memory of exactly the file's size. */
static int read_chunk(uint64_t plain_size, int want_encrypted)
{
    int fd, error = 0;
    size_t size;
    int status = open_chunk(&fd, &size);
    if (status)
        return status;
    uint8_t *memory = allocate(size);
    status = pbs_chunk_read(fd, size, plain_size, want_encrypted, memory, &error);
    free(memory);
    close(fd);
    return status;
}

static void put_blob(enum pbs_blob_kind kind, size_t size)
{
    uint8_t *blob = allocate(size);
    fill_random(&seed, blob, size);
    make_blob(blob, size, kind);
    store_put(&store, digest, blob, size);
    free(blob);
}

static void names_are_those_of_a_chunk_store(void)
{
    char name[PBS_CHUNK_NAME_SIZE];
    uint8_t some[32] = {0x01, 0xab, 0xff};
    pbs_chunk_name(some, name);
    CHECK(strcmp(name, "01ab/01abff00000000000000000000000000000000000000000000000000000000"
                       "00") == 0);
}

static void whole_blobs_are_read(void)
{
    for (int kind = PBS_BLOB_PLAIN; kind <= PBS_BLOB_ZSTD_ENCRYPTED; kind++) {
        int encrypted = kind >= PBS_BLOB_ENCRYPTED;
        put_blob((enum pbs_blob_kind)kind, 1000);
        CHECK_EQUAL(read_chunk(988, encrypted), PBS_OK);
        CHECK_EQUAL(read_chunk(988, !encrypted), PBS_E_CRYPT);
        /* Only of a plain blob can the content's length be told. */
        CHECK_EQUAL(read_chunk(987, encrypted), kind == PBS_BLOB_PLAIN ? PBS_E_LENGTH : PBS_OK);
    }
}

static void lengths_are_those_that_the_protocol_takes(void)
{
    put_blob(PBS_BLOB_PLAIN, PBS_CHUNK_FILE_MIN);
    CHECK_EQUAL(read_chunk(1, 0), PBS_OK);
    put_blob(PBS_BLOB_PLAIN, PBS_CHUNK_FILE_MIN - 1);
    CHECK_EQUAL(read_chunk(0, 0), PBS_E_LENGTH);
    put_blob(PBS_BLOB_PLAIN, PBS_CHUNK_FILE_MAX);
    CHECK_EQUAL(read_chunk(PBS_CHUNK_FILE_MAX - 12, 0), PBS_OK);
    put_blob(PBS_BLOB_PLAIN, PBS_CHUNK_FILE_MAX + 1);
    CHECK_EQUAL(read_chunk(0, 0), PBS_E_TOO_LARGE);
    store_put(&store, digest, NULL, 0);
    CHECK_EQUAL(read_chunk(0, 0), PBS_E_EMPTY);
    /* An encrypted one has a longer header. */
    uint8_t blob[PBS_BLOB_ENCRYPTED_HEADER_SIZE] = {0};
    make_blob(blob, sizeof blob, PBS_BLOB_ENCRYPTED);
    store_put(&store, digest, blob, sizeof blob - 1);
    CHECK_EQUAL(read_chunk(0, 1), PBS_E_LENGTH);
    store_put(&store, digest, blob, sizeof blob);
    CHECK_EQUAL(read_chunk(0, 1), PBS_OK);
}

static void damage_is_found(void)
{
    uint8_t blob[200];
    fill_random(&seed, blob, sizeof blob);
    make_blob(blob, sizeof blob, PBS_BLOB_PLAIN);
    for (size_t i = 0; i < sizeof blob; i++) {
        blob[i] ^= 0x10;
        store_put(&store, digest, blob, sizeof blob);
        CHECK_EQUAL(read_chunk(188, 0), i < 8 ? PBS_E_MAGIC : PBS_E_CRC);
        blob[i] ^= 0x10;
    }
}

static void only_regular_files_are_opened(void)
{
    int fd;
    size_t size;
    const char *name = store_name(&store, digest);
    CHECK(unlinkat(store.fd, name, 0) == 0);
    CHECK_EQUAL(open_chunk(&fd, &size), PBS_E_NOT_FOUND);
    CHECK(mkdirat(store.fd, name, 0700) == 0);
    CHECK_EQUAL(open_chunk(&fd, &size), PBS_E_NOT_REGULAR);
    CHECK(unlinkat(store.fd, name, AT_REMOVEDIR) == 0);
    CHECK(symlinkat("/dev/zero", store.fd, name) == 0);
    CHECK_EQUAL(open_chunk(&fd, &size), PBS_E_NOT_REGULAR);
    CHECK(unlinkat(store.fd, name, 0) == 0);
    CHECK(mkfifoat(store.fd, name, 0600) == 0);
    CHECK_EQUAL(open_chunk(&fd, &size), PBS_E_NOT_REGULAR); /* and does not hang */
    CHECK(unlinkat(store.fd, name, 0) == 0);

    uint8_t other[32] = {0xff, 0xff, 1};
    int error = 0;
    CHECK_EQUAL(pbs_chunk_open(store.fd, other, &fd, &size, &error), PBS_E_NOT_FOUND);
    CHECK_EQUAL(pbs_chunk_open(-1, digest, &fd, &size, &error), PBS_E_IO);
    CHECK_EQUAL(error, EBADF);
}

/* Whoever has no index to go by takes a chunk of any length, encrypted or not; damage stays. */
static void any_sound_blob_is_read_where_nothing_is_known_of_it(void)
{
    uint8_t byte;
    put_blob(PBS_BLOB_PLAIN, 300);
    CHECK_EQUAL(read_chunk(1, 0), PBS_E_LENGTH);
    CHECK_EQUAL(read_chunk(PBS_CHUNK_ANY_SIZE, PBS_CHUNK_EITHER), PBS_OK);
    put_blob(PBS_BLOB_ENCRYPTED, 300);
    CHECK_EQUAL(read_chunk(PBS_CHUNK_ANY_SIZE, 0), PBS_E_CRYPT);
    CHECK_EQUAL(read_chunk(PBS_CHUNK_ANY_SIZE, PBS_CHUNK_EITHER), PBS_OK);

    int fd = openat(store.fd, store_name(&store, digest), O_RDWR);
    CHECK(pread(fd, &byte, 1, 299) == 1);
    byte ^= 1;
    CHECK(pwrite(fd, &byte, 1, 299) == 1);
    close(fd);
    CHECK_EQUAL(read_chunk(PBS_CHUNK_ANY_SIZE, PBS_CHUNK_EITHER), PBS_E_CRC);
}

static void a_file_that_shrinks_is_found_out(void)
{
    int fd, error = 0;
    size_t size;
    uint8_t memory[500];
    put_blob(PBS_BLOB_PLAIN, sizeof memory);
    CHECK_EQUAL(open_chunk(&fd, &size), PBS_OK);
    CHECK_EQUAL(size, sizeof memory);
    put_blob(PBS_BLOB_PLAIN, sizeof memory - 1); /* the same file */
    CHECK_EQUAL(pbs_chunk_read(fd, size, 488, 0, memory, &error), PBS_E_SHRUNK);
    close(fd);
    CHECK_EQUAL(pbs_chunk_read(-1, size, 488, 0, memory, &error), PBS_E_IO);
    CHECK_EQUAL(error, EBADF);
}

static void inodes_are_told_where_there_is_a_file(void)
{
    uint8_t rows[2 * 40] = {0};
    uint32_t positions[] = {1, 0, 1};
    uint64_t inodes[3] = {7, 7, 7};
    struct stat st;
    put_blob(PBS_BLOB_PLAIN, 100);
    memcpy(rows + 40, digest, 32);
    pbs_chunk_inodes(store.fd, rows, 40, positions, 3, inodes);
    CHECK(fstatat(store.fd, store_name(&store, digest), &st, 0) == 0);
    CHECK(inodes[0] == st.st_ino && inodes[1] == 0 && inodes[2] == st.st_ino);
}

/* The folder of four digits must not lead out of the store either. */
static void folders_that_are_links_are_not_followed(void)
{
    char folder[5] = "";
    int fd;
    size_t size;
    put_blob(PBS_BLOB_PLAIN, 100);
    memcpy(folder, store_name(&store, digest), 4);
    CHECK_EQUAL(read_chunk(88, 0), PBS_OK);
    CHECK(renameat(store.fd, folder, store.fd, "elsewhere") == 0);
    CHECK(symlinkat("elsewhere", store.fd, folder) == 0);
    CHECK_EQUAL(open_chunk(&fd, &size), PBS_E_NOT_REGULAR);
    CHECK(unlinkat(store.fd, folder, 0) == 0);
    CHECK(renameat(store.fd, "elsewhere", store.fd, folder) == 0);
}

static void run_all(void)
{
    RUN(names_are_those_of_a_chunk_store);
    RUN(whole_blobs_are_read);
    RUN(lengths_are_those_that_the_protocol_takes);
    RUN(damage_is_found);
    RUN(any_sound_blob_is_read_where_nothing_is_known_of_it);
    RUN(inodes_are_told_where_there_is_a_file);
    RUN(folders_that_are_links_are_not_followed);
    RUN(only_regular_files_are_opened);
    RUN(a_file_that_shrinks_is_found_out);
}

/* From now on openat2 is a call that the kernel does not know; 0 where that cannot be had. */
static int forget_openat2(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* All of it once more, as on older kernels, in some containers and under emulators. */
static void run_without_openat2(void)
{
    int status = -1;
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (forget_openat2()) {
            CHECK(syscall(SYS_openat2, -1, "", NULL, (size_t)0) == -1 && errno == ENOSYS);
            run_all();
        }
        fflush(NULL);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

int main(void)
{
    store = store_new();
    fill_random(&seed, digest, sizeof digest);
    run_all();
    run_without_openat2();
    store_free(&store);
    return 0;
}
