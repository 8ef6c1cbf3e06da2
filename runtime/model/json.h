/* Reading the JSON files of a model folder, strictly: a table names every key that may stand in an object, each with
 * the function that takes its value. A key that is on no table is refused by name, so nothing that might change a
 * model's results is passed over; null stands for an absent key. Failures name the file and the key. Internal to
 * lucid_model. */
#ifndef LUCID_RUNTIME_MODEL_JSON_H
#define LUCID_RUNTIME_MODEL_JSON_H

#include "comm/comm.h"

#include <jansson.h>

/* Where an object stands: its file, and what precedes its keys in messages ("" or "rope_scaling."). */
typedef struct {
    const char *path, *prefix;
} lucid_json_place;

/* A string that a key may have, and the enumerator it stands for. */
typedef struct {
    const char *word; /* NULL ends the list */
    int value;
} lucid_json_word;

typedef struct lucid_json_key lucid_json_key;

/* Checks value, which is not null, and stores it in *field (key->offset into the object's target). */
typedef lucid_status lucid_json_taker(void *field, const lucid_json_key *key, const json_t *value,
                                      const lucid_json_place *place);

struct lucid_json_key {
    const char *name;
    lucid_json_taker *take;
    size_t offset;
    int64_t max;                  /* take_count */
    const lucid_json_word *words; /* take_word */
};

lucid_json_taker lucid_json_take_count;    /* int: an integer within 1..max */
lucid_json_taker lucid_json_take_positive; /* double > 0 */
lucid_json_taker lucid_json_take_scale;    /* double >= 1 */
lucid_json_taker lucid_json_take_share;    /* double >= 0 */
lucid_json_taker lucid_json_take_bool;
lucid_json_taker lucid_json_take_word;   /* int: one of words */
lucid_json_taker lucid_json_ignore;      /* harmless: has no effect on results */
lucid_json_taker lucid_json_must_be_off; /* refused but for false, 0 and what is empty */
lucid_json_taker lucid_json_must_be_one; /* refused but for 1 */

/* Every key of object through its row of the table. */
lucid_status lucid_json_take(void *target, const json_t *object, const lucid_json_key *keys, int n_keys,
                             const lucid_json_place *place);

/* "path: prefix.key: message" as the process's failure. */
lucid_status lucid_json_refuse(const lucid_json_place *place, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* text (n_bytes) as an object; json_decref it. Errors: INPUT in the name of path. */
lucid_status lucid_json_parse(json_t **object, const char *text, size_t n_bytes, const char *path);
/* The file's text with a NUL behind it, malloc'ed. *text is NULL when there is no such file. Errors: INPUT, IO, MEMORY.
 */
lucid_status lucid_json_read(char **text, size_t *n_bytes, const char *path);

#endif
