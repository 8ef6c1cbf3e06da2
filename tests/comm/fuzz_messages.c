/* Fuzzes the unpacking of messages: the first byte chooses the kind. What is accepted must pack, and come back the
 * same. */
#include "comm/message_manifest.h"
#include "comm/messages.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(bool condition) {
    if (!condition) abort();
}

static void check_job(const uint8_t *bytes, size_t n) {
    lucid_job job, again;
    uint8_t *first, *second;
    size_t n_first, n_second;
    if (lucid_message_unpack_job(&job, bytes, n)) return;
    require(lucid_message_pack_job(&first, &n_first, &job) == LUCID_OK);
    require(lucid_message_unpack_job(&again, first, n_first) == LUCID_OK);
    require(lucid_message_pack_job(&second, &n_second, &again) == LUCID_OK);
    require(n_first == n_second && memcmp(first, second, n_first) == 0);
    free(job.words);
    free(again.words);
    free(first);
    free(second);
}

static void check_report(const uint8_t *bytes, size_t n) {
    lucid_rank_report report, again;
    uint8_t *first, *second;
    size_t n_first, n_second;
    if (lucid_message_unpack_report(&report, bytes, n)) return;
    require(lucid_message_pack_report(&first, &n_first, &report) == LUCID_OK);
    require(lucid_message_unpack_report(&again, first, n_first) == LUCID_OK);
    require(again.n_events == report.n_events);
    require(lucid_message_pack_report(&second, &n_second, &again) == LUCID_OK);
    require(n_first == n_second && memcmp(first, second, n_first) == 0);
    free(report.events);
    free(again.events);
    free(first);
    free(second);
}

static void check_cache(const uint8_t *bytes, size_t n) {
    lucid_cache_manifest manifest, again;
    uint8_t *first, *second;
    size_t n_first, n_second;
    if (lucid_message_unpack_cache(&manifest, bytes, n, "manifest")) return;
    require(lucid_message_pack_cache(&first, &n_first, &manifest) == LUCID_OK);
    require(lucid_message_unpack_cache(&again, first, n_first, "manifest") == LUCID_OK);
    require(lucid_message_pack_cache(&second, &n_second, &again) == LUCID_OK);
    require(n_first == n_second && memcmp(first, second, n_first) == 0);
    lucid_cache_manifest_free(&manifest);
    lucid_cache_manifest_free(&again);
    free(first);
    free(second);
}

static void check_manifest(const uint8_t *bytes, size_t n) {
    lucid_manifest manifest, again;
    uint8_t *first, *second;
    size_t n_first, n_second;
    if (lucid_message_unpack_manifest(&manifest, bytes, n, "fuzz")) return;
    require(lucid_message_pack_manifest(&first, &n_first, &manifest) == LUCID_OK);
    require(lucid_message_unpack_manifest(&again, first, n_first, "again") == LUCID_OK);
    require(again.n_blocks == manifest.n_blocks && again.n_files == manifest.n_files);
    require(lucid_message_pack_manifest(&second, &n_second, &again) == LUCID_OK);
    require(n_first == n_second && memcmp(first, second, n_first) == 0);
    lucid_manifest_free(&manifest);
    lucid_manifest_free(&again);
    free(first);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static void (*const checks[])(const uint8_t *, size_t) = {check_job, check_report, check_cache, check_manifest};
    if (n) checks[bytes[0] % (sizeof checks / sizeof *checks)](bytes + 1, n - 1);
    return 0;
}
