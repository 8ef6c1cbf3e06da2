/* What --help prints. */
#include "launch/options_table.h"

#include <string.h>

static void help_option(FILE *stream, const launch_option *o) {
    char left[OPTION_TEXT_MAX];
    const char *argument = o->argument ? o->argument : o->choices;
    snprintf(left, sizeof left, "--%s%s%s", o->name, argument ? " " : "", argument ? argument : "");
    fprintf(stream, "  %-42s %s", left, o->help);
    if (o->initial && strcmp(o->initial, "0")) fprintf(stream, " (default %s)", o->initial);
    fputc('\n', stream);
}

static void help_section(FILE *stream, option_section section, launch_command command) {
    bool titled = false;
    for (const launch_option *o = launch_option_table; o < launch_option_table_end; o++) {
        if (o->section != section || !launch_option_applies(o, command)) continue;
        if (!titled) fprintf(stream, "\n%s:\n", launch_section_names[section]);
        titled = true;
        help_option(stream, o);
    }
}

void launch_options_help(FILE *stream, const launch_options *options) {
    if (options->command == N_COMMANDS) {
        fprintf(stream, "Usage: lucid COMMAND [OPTIONS], alone or under mpirun or srun\n\n"
                        "Distributed LUCID attention over long contexts.\n\nCommands:\n");
        for (int i = 0; i < N_COMMANDS; i++)
            fprintf(stream, "  %-10s %s\n", launch_command_table[i].name, launch_command_table[i].help);
        fprintf(stream, "\n'lucid COMMAND --help' lists a command's options; 'lucid --version' prints the version.\n");
        return;
    }
    const char *name = launch_command_name(options->command);
    fprintf(stream, "Usage: lucid %s [OPTIONS]\n\nlucid %s: %s.\n", name, name,
            launch_command_table[options->command].help);
    fprintf(stream, "Numbers of tokens and bytes take K, M, G and T (1024-based).\n");
    for (int section = 0; section < N_SECTIONS; section++) help_section(stream, section, options->command);
}
