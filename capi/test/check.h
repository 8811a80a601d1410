/* What the tests share: checks that say what failed, on a copy of stderr, because the
 * tests watch stdout and stderr for output of the library. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flare.h"

static FILE *report;   /* the real stderr */
static FILE *captured; /* where stdout and stderr go meanwhile */
static int   failures;

/* Counts a failure and prints it, unless there were many. */
#define FAIL(...)                                                                         \
    do {                                                                                  \
        if (__atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST) <= 20) {                   \
            fprintf(report, "%s:%d: failed: ", __FILE__, __LINE__);                       \
            fprintf(report, __VA_ARGS__);                                                 \
            fprintf(report, " (last error: %s)\n", flare_last_error());                   \
        }                                                                                 \
    } while (0)

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition))                                                                 \
            FAIL("%s", #condition);                                                       \
    } while (0)

/* Checks the status of a call, and that the error text of a failure contains text. */
#define CHECK_STATUS(call, expected, text)                                                \
    do {                                                                                  \
        flare_status got_ = (call);                                                       \
        if (got_ != (expected))                                                           \
            FAIL("%s gave %s, expected %s", #call, flare_status_name(got_),               \
                 flare_status_name(expected));                                            \
        else if (got_ != FLARE_OK && strstr(flare_last_error(), (text)) == NULL)          \
            FAIL("%s: the error text lacks \"%s\"", #call, (text));                       \
    } while (0)

static void begin_checks(void)
{
    report = fdopen(dup(2), "w");
    setvbuf(report, NULL, _IONBF, 0);
    captured = tmpfile();
    dup2(fileno(captured), 1);
    dup2(fileno(captured), 2);
}

/* Returns the exit status of the test program. */
static int end_checks(const char *name)
{
    fflush(stdout);
    if (lseek(fileno(captured), 0, SEEK_END) != 0) {
        failures++;
        fprintf(report, "%s: failed: the library wrote to stdout or stderr:\n", name);
        rewind(captured);
        for (int c; (c = getc(captured)) != EOF;)
            putc(c, report);
    }
    if (failures > 0)
        fprintf(report, "%s: %d checks failed\n", name, failures);
    return failures > 0;
}

#endif
