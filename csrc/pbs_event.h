/*
 * A file descriptor that is readable while an event is set, for a thread that waits in poll(2).
 * Callers keep it under a lock of their own.
 */
#ifndef PBS_EVENT_H
#define PBS_EVENT_H

struct pbs_event {
    int fd;
    int set;
};

/* PBS_OK, or PBS_E_IO, after which pbs_event_close does nothing. */
int pbs_event_open(struct pbs_event *event);
void pbs_event_close(struct pbs_event *event);

/* A system call each, and only where it changes something. */
void pbs_event_set(struct pbs_event *event);
void pbs_event_clear(struct pbs_event *event);

#endif
