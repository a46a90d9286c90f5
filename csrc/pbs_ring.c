#define _GNU_SOURCE
#include "pbs_ring.h"

#include <sys/mman.h>

#include "pbs_error.h"

int pbs_ring_map(struct pbs_ring *ring, size_t size)
{
    /* Mapped, not allocated: pages that no piece reaches cost nothing. */
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return PBS_E_NOMEM;
    ring->memory = memory;
    ring->size = ring->limit = size;
    return PBS_OK;
}

void pbs_ring_unmap(struct pbs_ring *ring)
{
    if (ring->memory)
        munmap(ring->memory, ring->size);
}

static int empty(const struct pbs_ring *ring)
{
    return ring->first == ring->end;
}

int pbs_ring_find(const struct pbs_ring *ring, size_t size, size_t *out_start)
{
    if (ring->end - ring->first == PBS_RING_SLOTS)
        return 0;
    if (empty(ring)) {
        /* Begin anew, so that a sender that keeps up uses the same, cached, memory. */
        *out_start = 0;
        return 1;
    }
    size_t oldest = ring->slots[ring->first % PBS_RING_SLOTS].start;
    size_t end = ring->wrapped ? oldest : ring->limit;
    if (ring->tail <= end && size <= end - ring->tail) {
        *out_start = ring->tail;
        return 1;
    }
    if (ring->wrapped || size > oldest)
        return 0;
    *out_start = 0;
    return 1;
}

uint64_t pbs_ring_take(struct pbs_ring *ring, const struct pbs_slot *slot)
{
    /* What is taken before the tail, which is not 0 then, is taken from the ring's beginning. */
    ring->wrapped = !empty(ring) && (ring->wrapped || slot->start < ring->tail);
    ring->tail = slot->start + slot->size;
    *pbs_ring_slot(ring, ring->end) = *slot;
    ring->used += slot->size;
    if (ring->used > ring->most_used)
        ring->most_used = ring->used;
    return ring->end++;
}

/* Those that were given back before their turn are not to be handed out. */
static void pass_free(struct pbs_ring *ring)
{
    while (ring->next < ring->end && pbs_ring_slot(ring, ring->next)->state == PBS_SLOT_FREE)
        ring->next++;
}

struct pbs_slot *pbs_ring_ready(struct pbs_ring *ring)
{
    struct pbs_slot *slot = pbs_ring_slot(ring, ring->next);

    return ring->next < ring->end && slot->state == PBS_SLOT_READY ? slot : NULL;
}

uint64_t pbs_ring_hand_out(struct pbs_ring *ring)
{
    uint64_t number = ring->next++;

    pbs_ring_slot(ring, number)->state = PBS_SLOT_OUT;
    pass_free(ring);
    return number;
}

void pbs_ring_release(struct pbs_ring *ring, uint64_t number)
{
    pbs_ring_slot(ring, number)->state = PBS_SLOT_FREE;
    ring->used -= pbs_ring_slot(ring, number)->size;
    pass_free(ring);
    while (!empty(ring)) {
        const struct pbs_slot *oldest = pbs_ring_slot(ring, ring->first);
        if (oldest->state != PBS_SLOT_FREE)
            break;
        ring->first++;
        if (!empty(ring) && pbs_ring_slot(ring, ring->first)->start < oldest->start)
            ring->wrapped = 0;
    }
}
