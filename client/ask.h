/* SPDX-License-Identifier: MIT */
#pragma once

/* Questions to the daemon as the verbs put them: what fails is said on standard error and becomes an exit code. */

#include "client/client.h"
#include "client/connection.h"
#include "client/render.h"

/* One line to standard error, escaped. */
void complain(const char *format, ...) _printf_(1, 2);

/* For -ENOMEM of a writer: says so. */
enum status complain_memory(void);

/* STATUS_FOUND: connected. `quiet`: STATUS_NO_DAEMON is the caller's to say. */
enum status ask_open(const struct options *o, bool quiet, struct connection *ret);

/* How to get a daemon, for whoever could not ask one. */
void complain_no_daemon(const struct options *o);

/* `parameters`, which it steals, with this text, if it is one. NULL: no memory. What json_pack() has no memory for where a text may be
 * NULL ("s*") it leaves out, and so asks another question. */
json_t *ask_about(json_t *parameters, const char *name, const char *text);

/* Calls a method of org.portledger.ledger ("Who") and reads its only reply, checked. Steals `parameters` (NULL: no
 * memory). STATUS_FOUND: *ret is the reply's parameters, the caller's. */
enum status ask(struct connection *c, const char *method, json_t *parameters,
	const struct shape *shape, json_t **ret);

/* The same; but where the daemon answers with the error `refusal` ("QueryTooLong"), it is found, and *ret is NULL. */
enum status ask_unless(struct connection *c, const char *method, json_t *parameters,
	const struct shape *shape, const char *refusal, json_t **ret);

/* What becomes of the claims of one page. */
typedef enum status (*ask_page_fn)(void *context, const json_t *claims);

/*
 * Asks Who or Claims page by page to the end; `parameters` stay the caller's (NULL: no memory) and get a `cursor`. Pages
 * are pulled rather than streamed: a pager may keep us waiting for as long as someone reads, and a daemon cuts whoever
 * takes nothing. Appends the receipt, once, to `receipts`.
 */
enum status ask_pages(struct connection *c, const char *method, json_t *parameters,
	ask_page_fn take, void *context, json_t *receipts);

/* The same for another method: of its reply, a `shape` with `cursor` and `coverage`, `rows` names the list. */
enum status ask_pages_of(struct connection *c, const char *method, const struct shape *shape,
	const char *rows, json_t *parameters, ask_page_fn take, void *context, json_t *receipts);

/* The same in two steps, for replies that go on. */
enum status ask_call(
	struct connection *c, const char *method, json_t *parameters, const char *flag);
enum status ask_reply(
	struct connection *c, const struct shape *shape, json_t **ret, bool *ret_continues);

/* Checks --columns and -F, then makes the writer. STATUS_FOUND: *ret is set. */
enum status ask_writer(
	const struct view *v, const struct kind *k, bool unbounded, struct writer **ret);

/* Writes all rows of a list. */
enum status write_rows(struct writer *w, const json_t *rows);

/* The exit code of an answer: `count` rows, and what its receipts say under --strict. `receipts` may be NULL. */
enum status answer_status(const struct options *o, size_t count, const json_t *receipts);

/* For people: why there are no rows. "Nothing" and "not watching" never look alike. */
void say_nothing(const struct view *v, const json_t *receipts);
