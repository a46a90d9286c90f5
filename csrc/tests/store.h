/* A chunk store in a temporary folder, for tests. */
#ifndef PBS_TESTS_STORE_H
#define PBS_TESTS_STORE_H

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "pbs_blob.h"
#include "pbs_bytes.h"
#include "pbs_chunks.h"
#include "pbs_index.h"

struct store {
    char path[PATH_MAX];
    int fd; /* of its `.chunks` */
};

/* A fixed index whose digests lie back to back in memory. */
static inline struct pbs_index fixed_index(const uint8_t *rows, size_t n, uint64_t chunk_size,
                                           uint64_t size)
{
    struct pbs_index index = {0};
    index.kind = PBS_INDEX_FIXED;
    index.digests = rows;
    index.stride = PBS_FIXED_ENTRY_SIZE;
    index.n = n;
    index.chunk_size = chunk_size;
    index.size = size;
    return index;
}

static inline struct store store_new(void)
{
    struct store store;
    const char *folder = getenv("TMPDIR");
    snprintf(store.path, sizeof store.path, "%s/pbs-test-XXXXXX", folder ? folder : "/tmp");
    CHECK(mkdtemp(store.path) != NULL);
    store.fd = open(store.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(store.fd >= 0);
    return store;
}

static inline int store_remove_one(const char *path, const struct stat *st, int kind,
                                   struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static inline void store_free(struct store *store)
{
    close(store->fd);
    CHECK(nftw(store->path, store_remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

/* The path of a chunk, whose folder exists then; relative to the store. */
static inline const char *store_name(const struct store *store, const uint8_t *digest)
{
    static char name[PBS_CHUNK_NAME_SIZE];
    char folder[5];
    pbs_chunk_name(digest, name);
    snprintf(folder, sizeof folder, "%.4s", name);
    (void)mkdirat(store->fd, folder, 0700);
    return name;
}

static inline void store_put(const struct store *store, const uint8_t *digest, const uint8_t *file,
                             size_t size)
{
    int fd = openat(store->fd, store_name(store, digest), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    while (size > 0) {
        ssize_t n = write(fd, file, size);
        CHECK(n > 0);
        file += n;
        size -= (size_t)n;
    }
    close(fd);
}

/* Write a blob's header in front of its content; magic: one of the four kinds. */
static inline void make_blob(uint8_t *blob, size_t size, enum pbs_blob_kind kind)
{
    static const uint8_t magic[][8] = {
        [PBS_BLOB_PLAIN] = {66, 171, 56, 7, 190, 131, 112, 161},
        [PBS_BLOB_ZSTD] = {49, 185, 88, 66, 111, 182, 163, 127},
        [PBS_BLOB_ENCRYPTED] = {123, 103, 133, 190, 34, 45, 76, 240},
        [PBS_BLOB_ZSTD_ENCRYPTED] = {230, 89, 27, 191, 11, 191, 216, 11},
    };
    size_t header = kind >= PBS_BLOB_ENCRYPTED ? PBS_BLOB_ENCRYPTED_HEADER_SIZE
                                               : PBS_BLOB_HEADER_SIZE;
    memcpy(blob, magic[kind], 8);
    pbs_store_le32(blob + 8, pbs_crc32(0, blob + header, size - header));
}

#endif
