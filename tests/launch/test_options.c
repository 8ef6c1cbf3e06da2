/* The option table: what parses, to which values, and what is refused. */
#include "launch/options.h"
#include "tests/capture_failure.h"

#include <stdlib.h>

#define PARSE(options, ...)                                                                        \
    launch_options_parse(options, sizeof((const char *[]){"lucid", __VA_ARGS__}) / sizeof(char *), \
                         (char *[]){"lucid", __VA_ARGS__})

static void test_defaults(void) {
    launch_options o;
    CHECK(PARSE(&o, "attend", "--random", "10") == LUCID_OK, "%s", last_failure);
    CHECK(o.command == COMMAND_ATTEND && o.random == 10 && o.heads == 4 && o.head_dim == 64, "defaults of the input");
    CHECK(o.save == SAVE_OUT && o.progress == PROGRESS_AUTO && !o.quiet && !o.output, "defaults of the output");
    CHECK(!strcmp(o.isa, "auto") && !strcmp(o.comm, "auto"), "isa %s, comm %s", o.isa, o.comm);
    CHECK_NEAR(o.eps, 1e-5, 0, "eps is read as it is written");
}

static void test_values(void) {
    launch_options o;
    CHECK(PARSE(&o, "attend", "--random=64K", "--memory-budget", "3G", "--save", "lse,out", "--seed", "9", "--quiet",
                "--layout=cyclic", "--softmax-scale", "-0.5", "--isa", "avx2", "--random", "1M") == LUCID_OK,
          "%s", last_failure);
    CHECK(o.random == 1 << 20, "the last of two counts: %lld", (long long)o.random);
    CHECK(o.memory_budget == (int64_t)3 << 30, "3G is %lld", (long long)o.memory_budget);
    CHECK(o.save == (SAVE_OUT | SAVE_LSE) && o.quiet && o.layout == 3 && o.seed == 9, "set, flag, choice, number");
    CHECK(!strcmp(o.isa, "avx2"), "isa %s", o.isa);
    CHECK_NEAR(o.softmax_scale, -0.5, 0, "a negative number");
}

static void test_integers(void) {
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"0", 0}, {"-3", -3}, {"12k", 12288}, {"1K", 1024}, {"2M", 2097152}, {"1T", INT64_C(1) << 40}};
    static const char *const bad[] = {"", "K", "1KK", "1.5K", "0x10", "8EB", " ", "9223372036854775808", "99999999T"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t x = -1;
        CHECK(!launch_parse_integer(&x, "n", good[i].text, -10, INT64_MAX), "%s: %s", good[i].text, last_failure);
        CHECK(x == good[i].value, "%s is %lld", good[i].text, (long long)x);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t x = -1;
        check_failed(launch_parse_integer(&x, "n", bad[i], -10, INT64_MAX), LUCID_ERR_USAGE, "n: ");
        CHECK(x == -1, "'%s' changes the number", bad[i]);
    }
}

typedef struct {
    int argc;
    char *argv[64];
} command_line;

static void append(void *context, const char *name, const char *value) {
    command_line *c = context;
    bool flag = value && !strcmp(value, "true");
    if (value && asprintf(&c->argv[c->argc++], flag ? "--%s" : "--%s=%s", name, value) < 0) exit(1);
}

static void print_echo(void *context, const char *name, const char *value) {
    fprintf(context, "%s=%s\n", name, value ? value : "");
}

static char *echo(const launch_options *options) {
    char *text = NULL;
    size_t n;
    FILE *stream = open_memstream(&text, &n);
    launch_options_visit(options, print_echo, stream);
    fclose(stream);
    return text;
}

/* A command line made of an echo echoes the same. */
static void test_echo(void) {
    launch_options o, again;
    CHECK(PARSE(&o, "attend", "--random", "64", "--output=b", "--save", "y,out", "--tile", "128", "--eps", "0.0003",
                "--plan", "--schedule", "pipelined", "--out-dtype", "fp16") == LUCID_OK,
          "%s", last_failure);
    command_line line = {.argc = 2, .argv = {"lucid", "attend"}};
    launch_options_visit(&o, append, &line);
    CHECK(launch_options_parse(&again, line.argc, line.argv) == LUCID_OK, "%s", last_failure);
    char *want = echo(&o), *got = echo(&again);
    CHECK(!strcmp(got, want), "echo:\n%s, want:\n%s", got, want);
    CHECK(strstr(want, "save=out,y\n") && strstr(want, "tile=128\n") && strstr(want, "schedule=pipelined\n"), "%s",
          want);
    for (int i = 2; i < line.argc; i++) free(line.argv[i]);
    free(want);
    free(got);
}

static void test_help(void) {
    char *text = NULL;
    size_t n;
    launch_options o;
    for (int command = 0; command < N_COMMANDS; command++) {
        FILE *stream = open_memstream(&text, &n);
        char name[32], *second = NULL;
        snprintf(name, sizeof name, "%s", launch_command_name(command));
        second = strchr(name, ' ');
        if (second) *second++ = 0;
        char *argv[] = {"lucid", name, second ? second : "--help", "--help"};
        CHECK(launch_options_parse(&o, 4, argv) == LUCID_OK && o.help, "--help is accepted");
        launch_options_help(stream, &o);
        fclose(stream);
        CHECK(strstr(text, "--help"), "help of %s does not list --help", launch_command_name(command));
        CHECK((strstr(text, "--baseline") != NULL) == (command == COMMAND_BENCH), "--baseline is bench's alone");
        free(text);
    }
}

int main(void) {
    launch_options o;
    test_defaults();
    test_values();
    test_integers();
    test_echo();
    test_help();
    check_failed(PARSE(&o, "attend", "--random", "10", "--heads", "6", "--kv-heads", "4"), LUCID_ERR_USAGE,
                 "--kv-heads");
    check_failed(PARSE(&o, "attend", "--random", "10", "--comm", "nccl"), LUCID_ERR_USAGE, "--device cuda");
    CHECK(PARSE(&o, "attend", "--random", "10", "--comm", "nccl", "--device", "cuda") == LUCID_OK, "%s", last_failure);
    check_failed(PARSE(&o, "verify", "--plan"), LUCID_ERR_USAGE, "does not apply to 'verify'");
    return check_result();
}
