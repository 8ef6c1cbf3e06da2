/* The heart: a thread that tells a slow rank from one that is gone, and carries the news of a failure.
 *
 * Each rank listens to the ranks at distance 1, 2, 4, ... round the ring and beats for them a few times a second,
 * whatever kernels run meanwhile. Whoever is not heard of for the deadline counts as stopped or unreachable. A failure
 * - a rank's own, or the silence of another - is flooded along the same links, so it reaches every rank in log2(ranks)
 * hops, round any few that are gone. Where several fail at once the lowest rank's failure holds: it alone prints its
 * line, then it ends the job, and the others end without a word.
 *
 * It goes by the transport contract, on one channel above the caller's. Cost: 2 log2(ranks) messages of half a KiB
 * every BEAT_SECONDS, a wake-up every POLL_SECONDS. A rank that finds itself to have been stopped for a while (a
 * suspended job, a debugger) forgives everybody that while.
 */
#ifndef LUCID_COMM_HEART_H
#define LUCID_COMM_HEART_H

#include "comm/comm.h"

typedef struct lucid_heart lucid_heart;

/* Seconds of silence that count as a fault: a twentieth of the timeout but at least 10 s, and always less than the
 * timeout, so that a rank that is gone is reported as such before anybody's wait for it ends. */
double lucid_heart_deadline(double timeout);

/* Another deadline than the timeout's, from now on: tests must not wait for long, and give a busy machine time to
 * start.
 */
void lucid_heart_set_deadline(lucid_heart *heart, double seconds);

/* Errors: MEMORY. A rank without a peer has a heart too: it serves lucid_comm_dump. */
lucid_status lucid_heart_start(lucid_heart **heart, lucid_comm *comm);

/* Takes leave of the peers and waits for theirs, at most for the timeout. Collective; NULL is fine. */
void lucid_heart_stop(lucid_heart *heart);

/* Ends every rank; see lucid_comm_abort. Does not return. */
void lucid_heart_fail(lucid_heart *heart) __attribute__((noreturn));

/* While it rests it neither sends nor listens. Call on all ranks between two barriers. */
void lucid_heart_rest(lucid_heart *heart, bool rest);

double lucid_heart_silence(const lucid_heart *heart, int rank); /* see lucid_comm_silence */

/* Asks all hearts of the process for a dump. For signal handlers. */
void lucid_heart_dump(void);

#endif
