/* SPDX-License-Identifier: MIT */
#pragma once

/* What every verb of the client shares: exit codes, the run they belong to, and the verbs themselves. */

#include "client/options.h"
#include "client/view.h"

/* The client's exit codes (portledger(1), EXIT STATUS). */
enum status {
	STATUS_FOUND = 0,
	STATUS_NOTHING = 1, /* answered, and nothing matched */
	STATUS_USAGE = 2,
	STATUS_NO_DAEMON = 3,
	STATUS_DENIED = 4,
	STATUS_ERROR = 5,
	STATUS_INCOMPLETE = 6, /* --strict, and the receipt is not complete; goes before NOTHING */
};

/* Each answers one verb and returns its exit code; what went wrong was said on standard error. */
enum status verb_status(const struct options *o, struct view *v);
enum status verb_explain(const struct options *o, struct view *v);
enum status verb_who(const struct options *o, struct view *v);
enum status verb_now(const struct options *o, struct view *v);
enum status verb_history(const struct options *o, struct view *v);
enum status verb_follow(const struct options *o, struct view *v);
enum status verb_audit(const struct options *o, struct view *v);
enum status verb_failures(const struct options *o, struct view *v);
enum status verb_listeners(const struct options *o, struct view *v);
enum status verb_annotate(const struct options *o, struct view *v);
enum status verb_report(const struct options *o, struct view *v);
enum status verb_pressure(const struct options *o, struct view *v);
enum status verb_export(const struct options *o, struct view *v);
enum status verb_apps(const struct options *o, struct view *v);
enum status verb_doctor(const struct options *o, struct view *v);
/* of doctor --self-test */
enum status verb_self_test(const struct options *o, struct view *v);
enum status verb_config(const struct options *o, struct view *v);
