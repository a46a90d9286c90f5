/*
 * A keyed hash of digests, which an attacker may have written. Four products of key-shifted words,
 * summed up (NH, from UMAC), make two digests that differ equal with probability 2^-32 at most,
 * whatever they are, over the choice of the key. Numbers in a row give sums in a row, and those must
 * not become hashes in a row, which fill long runs of slots (a linear function did so under one key in
 * twenty: hundreds of probes a digest instead of 3.5). So shifts and keyed products, one-to-one, take
 * turns.
 */
#ifndef PBS_HASH_H
#define PBS_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_bytes.h"

#define PBS_HASH_KEY_SIZE 56u

struct pbs_hash {
    uint32_t pair_keys[8];
    uint64_t mix_keys[3];
};

/* The hash of this key, which is random, and kept from whoever writes digests. */
static inline void pbs_hash_init(struct pbs_hash *hash, const uint8_t key[PBS_HASH_KEY_SIZE])
{
    for (size_t i = 0; i < 8; i++)
        hash->pair_keys[i] = pbs_load_le32(key + 4 * i);
    for (size_t i = 0; i < 3; i++)
        hash->mix_keys[i] = pbs_load_le64(key + 32 + 8 * i) | 1;
}

static inline uint64_t pbs_hash_of(const struct pbs_hash *hash,
                                   const uint8_t digest[PBS_DIGEST_SIZE])
{
    uint64_t sum = 0;
    for (size_t i = 0; i < 8; i += 2) {
        uint32_t left = pbs_load_le32(digest + 4 * i) + hash->pair_keys[i];
        uint32_t right = pbs_load_le32(digest + 4 * i + 4) + hash->pair_keys[i + 1];
        sum += (uint64_t)left * right;
    }
    uint64_t mixed = sum ^ hash->mix_keys[0];
    mixed = (mixed ^ mixed >> 32) * hash->mix_keys[1];
    mixed = (mixed ^ mixed >> 32) * hash->mix_keys[2];
    return mixed ^ mixed >> 32;
}

#endif
