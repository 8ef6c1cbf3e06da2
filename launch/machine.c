#include "launch/machine.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#define FILE_BYTES_MAX 65536

static void list_names(char *names, size_t capacity) {
    DIR *dir = opendir(LUCID_MACHINES);
    size_t n = 0;
    names[0] = '\0';
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".json")) continue;
        int written =
            snprintf(names + n, capacity - n, "%s%.*s", n ? ", " : "", (int)(dot - entry->d_name), entry->d_name);
        if (written < 0 || (size_t)written >= capacity - n) break;
        n += (size_t)written;
    }
    if (dir) closedir(dir);
}

static lucid_status open_description(FILE **file, char *path, size_t capacity, const char *name) {
    const bool is_path = strpbrk(name, "/.") != NULL;
    snprintf(path, capacity, is_path ? "%s" : LUCID_MACHINES "/%s.json", name);
    *file = fopen(path, "r");
    if (*file) return LUCID_OK;
    char names[256];
    if (is_path) return lucid_fail(LUCID_ERR_INPUT, "%s: %s", path, strerror(errno));
    list_names(names, sizeof names);
    return lucid_fail(LUCID_ERR_USAGE, "--machine: '%s' is none of %s, nor the path of a file", name, names);
}

static lucid_status get_number(double *x, const json_t *object, const char *path, const char *member, double min,
                               double max) {
    const json_t *value = json_object_get(object, member);
    if (!json_is_number(value)) return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is not a number", path, member);
    *x = json_number_value(value);
    if (*x >= min && *x <= max) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is %g, not within %g and %g", path, member, *x, min, max);
}

static lucid_status get_count(int *n, const json_t *object, const char *path, const char *member, int min) {
    double x = 0;
    LUCID_TRY(get_number(&x, object, path, member, min, 1e6));
    if (x != floor(x)) return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is %g, not a whole number", path, member, x);
    *n = (int)x;
    return LUCID_OK;
}

static lucid_status get_members(launch_machine *m, const json_t *root, const char *path) {
    const json_t *link = json_object_get(root, "link");
    const char *description = json_string_value(json_object_get(root, "description"));
    double gflops = 0, gbit = 0, latency_us = 0;
    snprintf(m->description, sizeof m->description, "%s", description ? description : "");
    LUCID_TRY(get_count(&m->nodes, root, path, "nodes", 1));
    LUCID_TRY(get_count(&m->sockets, root, path, "sockets", 1));
    LUCID_TRY(get_count(&m->numa_domains, root, path, "numa_domains", 1));
    LUCID_TRY(get_count(&m->gpus, root, path, "gpus", 0));
    LUCID_TRY(get_number(&m->cores, root, path, "cores", 1e-3, 1e5));
    LUCID_TRY(get_number(&m->memory_gib, root, path, "memory_gib", 1e-3, 1e7));
    LUCID_TRY(get_number(&gflops, root, path, "core_gflops", 1e-3, 1e6));
    LUCID_TRY(get_number(&gbit, link, path, "gbit_per_s", 1e-6, 1e6));
    LUCID_TRY(get_number(&latency_us, link, path, "latency_us", 0, 1e9));
    m->core_flops = 1e9 * gflops;
    m->link_bytes = 1e9 * gbit / 8;
    m->latency = 1e-6 * latency_us;
    return LUCID_OK;
}

lucid_status launch_machine_read(launch_machine *machine, const char *name) {
    char path[PATH_MAX], text[FILE_BYTES_MAX];
    FILE *file;
    LUCID_TRY(open_description(&file, path, sizeof path, name));
    const size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    if (n == sizeof text) return lucid_fail(LUCID_ERR_INPUT, "%s: longer than %d bytes", path, FILE_BYTES_MAX - 1);
    json_error_t error;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!root) return lucid_fail(LUCID_ERR_INPUT, "%s: line %d: %s", path, error.line, error.text);
    launch_machine read = {0};
    snprintf(read.name, sizeof read.name, "%s", name);
    const lucid_status status = get_members(&read, root, path);
    json_decref(root);
    if (!status) *machine = read;
    return status;
}

launch_expectation launch_machine_expect(const launch_machine *m, const lucid_plan *plan, int world_size) {
    launch_expectation e = {.ranks_per_node = world_size < m->numa_domains ? world_size : m->numa_domains};
    const int most = (world_size + m->nodes - 1) / m->nodes;
    if (most > e.ranks_per_node) e.ranks_per_node = most;
    e.n_nodes = (world_size + e.ranks_per_node - 1) / e.ranks_per_node;
    e.cores = m->cores / e.ranks_per_node;
    e.work = plan->flops_max / (LAUNCH_EXPECTED_SHARE * e.cores * m->core_flops);
    /* The ranks of a node send round the ring: one of them to the next node. */
    if (e.n_nodes > 1) e.transfers = plan->bytes_sent_max / m->link_bytes + (double)plan->messages_max * m->latency;
    return e;
}

void launch_machine_compare(FILE *stream, const launch_machine *m, const launch_place *place) {
    if (place->host_cores && place->host_cores != (int)m->cores && m->cores >= 1)
        fprintf(stream, "lucid warning: this host has %d cores, a node of %s %g\n", place->host_cores, m->name,
                m->cores);
    if (place->host_domains && place->host_domains != m->numa_domains)
        fprintf(stream, "lucid warning: this host has %d NUMA domains, a node of %s %d\n", place->host_domains, m->name,
                m->numa_domains);
}
