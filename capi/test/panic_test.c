/* A defect inside the library, with a build that has one on purpose (tag flarepanic): it
 * becomes an error with a text, and so does every later call, instead of the end of this
 * process. */
#include "check.h"

static char log_text[4096];

static void keep_log(int32_t level, const char *message, void *user)
{
    CHECK(level == FLARE_LOG_ERROR && user == log_text);
    snprintf(log_text, sizeof log_text, "%s", message);
}

int main(void)
{
    flare_model *model = (flare_model *)log_text;
    char        *text;
    begin_checks();
    CHECK_STATUS(flare_set_log(keep_log, log_text, FLARE_LOG_ERROR), FLARE_OK, "");
    CHECK_STATUS(flare_model_open(&model, "panic:", NULL), FLARE_ERR_PANIC, "on purpose");
    CHECK(model == NULL);
    CHECK(strstr(log_text, "on purpose") != NULL && strstr(log_text, "flareGoOpen") != NULL);

    CHECK_STATUS(flare_model_open(&model, "x", NULL), FLARE_ERR_PANIC, "out of service");
    CHECK_STATUS(flare_devices(&text, NULL), FLARE_ERR_PANIC, "on purpose");
    CHECK_STATUS(flare_cancel((flare_model *)log_text), FLARE_ERR_PANIC, "restart the process");
    flare_model_free((flare_model *)log_text);
    CHECK(strcmp(flare_version(), "") != 0);
    return end_checks("panic_test");
}
