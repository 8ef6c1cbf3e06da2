/* The command line: its words to options, and options to words. */
#include "launch/options_table.h"

#include <string.h>

const char *launch_command_name(launch_command command) {
    return launch_command_table[command].name;
}

static const launch_option *option_find(const char *name, size_t n, launch_command command) {
    for (const launch_option *o = launch_option_table; o < launch_option_table_end; o++)
        if (launch_option_applies(o, command) && strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    return NULL;
}

static bool known_elsewhere(const char *name, size_t n) {
    for (int command = 0; command < N_COMMANDS; command++)
        if (option_find(name, n, command)) return true;
    return false;
}

static lucid_status set_defaults(launch_options *options) {
    for (const launch_option *o = launch_option_table; o < launch_option_table_end; o++)
        if (o->initial && launch_option_applies(o, options->command))
            LUCID_TRY(launch_option_set(o, options, o->initial));
    return LUCID_OK;
}

static lucid_status unknown_option(const launch_options *options, const char *name, size_t n) {
    const char *command = launch_command_name(options->command);
    if (known_elsewhere(name, n))
        return lucid_fail(LUCID_ERR_USAGE, "--%.*s does not apply to '%s' (see lucid %s --help)", (int)n, name, command,
                          command);
    return lucid_fail(LUCID_ERR_USAGE, "unknown option --%.*s (see lucid %s --help)", (int)n, name, command);
}

/* One option at argv[*i], "--name=value" or "--name value"; *i is left on its last word. *random: as
 * launch_options_check takes it. */
static lucid_status parse_option(launch_options *options, const launch_option **random, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *value = NULL;
    size_t n = strcspn(name, "=");
    const launch_option *o = option_find(name, n, options->command);
    if (!o) return unknown_option(options, name, n);
    if (name[n] == '=') value = name + n + 1;
    if (o->kind == FLAG && value) return lucid_fail(LUCID_ERR_USAGE, "--%s takes no value", o->name);
    if (o->kind != FLAG && !value) {
        if (*i + 1 >= argc) return lucid_fail(LUCID_ERR_USAGE, "--%s needs a value", o->name);
        value = argv[++*i];
    }
    if (o->section == RANDOM && !*random) *random = o;
    return launch_option_set(o, options, value);
}

/* Is it the command of the line's first words, and how many? */
static int match_command(const char *name, int argc, char **argv) {
    const size_t n = strcspn(name, " ");
    if (strlen(argv[1]) != n || memcmp(argv[1], name, n)) return 0;
    if (!name[n]) return 1;
    return argc > 2 && !strcmp(argv[2], name + n + 1) ? 2 : 0;
}

static lucid_status find_command(launch_options *options, int *n_words, int argc, char **argv) {
    bool family = false; /* commands of two words that begin with this one */
    for (int i = 0; i < N_COMMANDS; i++) {
        *n_words = match_command(launch_command_table[i].name, argc, argv);
        options->command = i;
        if (*n_words) return LUCID_OK;
        const size_t n = strlen(argv[1]);
        family =
            family || (!strncmp(launch_command_table[i].name, argv[1], n) && launch_command_table[i].name[n] == ' ');
    }
    options->command = N_COMMANDS;
    if (family)
        return lucid_fail(LUCID_ERR_USAGE, "unknown command '%s %s' (see lucid --help)", argv[1],
                          argc > 2 ? argv[2] : "");
    return lucid_fail(LUCID_ERR_USAGE, "unknown command '%s' (see lucid --help)", argv[1]);
}

lucid_status launch_options_parse(launch_options *options, int argc, char **argv) {
    const launch_option *random = NULL;
    *options = (launch_options){.command = N_COMMANDS};
    if (argc < 2) return lucid_fail(LUCID_ERR_USAGE, "no command (see lucid --help)");
    options->help = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
    options->version = strcmp(argv[1], "--version") == 0;
    if (options->help || options->version) return LUCID_OK;
    int n_words;
    LUCID_TRY(find_command(options, &n_words, argc, argv));
    LUCID_TRY(set_defaults(options));
    for (int i = 1 + n_words; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) || !argv[i][2])
            return lucid_fail(LUCID_ERR_USAGE, "unexpected argument '%s'", argv[i]);
        LUCID_TRY(parse_option(options, &random, argc, argv, &i));
        if (options->help || options->version) return LUCID_OK;
    }
    return launch_options_check(options, random);
}

void launch_options_visit(const launch_options *options, launch_option_visitor visit, void *context) {
    launch_options copy = *options;
    for (const launch_option *o = launch_option_table; o < launch_option_table_end; o++) {
        char text[OPTION_TEXT_MAX];
        if (launch_option_applies(o, options->command)) visit(context, o->name, launch_option_text(text, o, &copy));
    }
}
