/* SPDX-License-Identifier: MIT */

/*
 * annotate: an IDS's log in, the same log out, with the process of each record in a member of its own. A line keeps its
 * bytes: what is added goes before its last brace, and a line that cannot be asked about goes out as it came.
 *
 * Lines wait in a batch until it is full, or until nothing more comes for a moment, so that a log that grows is annotated as
 * it grows. Nothing else is kept: neither lines nor answers.
 */

#include "client/ask.h"

#include "client/cells.h"
#include "client/fields.h"
#include "client/format.h"
#include "client/jsonout.h"
#include "client/lines.h"
#include "client/shape.h"
#include "client/translated.h"
#include "common/json.h"

#define MEMBER      "portledger"
#define BATCH_BYTES (1024u * 1024u)
#define BATCH_LINES 1024u
#define BATCH_FLOWS 128u /* their claims mostly fit into a reply */
#define PAUSE_MSEC  100  /* without a further line: answer those that wait */

/* What becomes of a line; in the order of the summary. */
enum outcome {
	OUTCOME_PROCESS,
	OUTCOME_NO_PROCESS, /* the claim is known, and its process is not */
	OUTCOME_NOBODY,
	OUTCOME_UNWATCHED,
	OUTCOME_NOT_WATCHING,
	OUTCOME_EXPIRED,
	OUTCOME_NO_ENDS,
	OUTCOME_NO_TIME,
	OUTCOME_ANNOTATED,
	OUTCOME_NOT_JSON,
	OUTCOME_LONG,
	OUTCOME_COUNT,
};

static const struct {
	const char *name; /* of the interface's reasons, and ours */
	const char *text;
} outcomes[OUTCOME_COUNT] = {
	[OUTCOME_PROCESS] = {"process", "with a process"},
	[OUTCOME_NO_PROCESS] = {"no-process", "whose process is not known"},
	[OUTCOME_NOBODY] = {"nobody", "of watched ports that nobody was seen to have"},
	[OUTCOME_UNWATCHED] = {"unwatched-port", "of ports that are not watched"},
	[OUTCOME_NOT_WATCHING] = {"not-watching", "of a time when nobody watched"},
	[OUTCOME_EXPIRED] = {"expired", "of a time whose claims are pruned"},
	[OUTCOME_NO_ENDS] = {"no-ends", "without addresses and ports"},
	[OUTCOME_NO_TIME] = {"no-time", "without a time"},
	[OUTCOME_ANNOTATED] = {"annotated", "annotated already"},
	[OUTCOME_NOT_JSON] = {"not-json", "not JSON"},
	[OUTCOME_LONG] = {"too-long", "too long"},
};

struct line {
	size_t at, size; /* in annotate.bytes */
	size_t brace;    /* where the member goes; of one that is asked about */
	bool asked;
};

struct annotate {
	const struct options *options;
	const struct view *view;
	struct connection *connection;
	struct fields fields;
	struct buf bytes;
	struct line line[BATCH_LINES];
	size_t lines;
	json_t *flows; /* of those that are asked about, in order */
	uint64_t count[OUTCOME_COUNT];
	uint64_t total;
	usec_t first, last; /* of what was asked about */
};

/* What is said of a claim, without --columns. */
static const char *const claim_members[] = {"port", "protocol", "role", "opened_usec",
	"opened_after_usec", "closed_usec", "pid", "comm", "exe", "uid", "user", "unit",
	"parent_pid", "parent_comm", "attribution"};

/* A claim as it is put into a record. NULL: no memory. */
static json_t *describe(const struct annotate *a, const json_t *claim)
{
	const struct options *o = a->options;
	json_t *whole = shape_order(&shape_claim, claim), *described = json_object();
	size_t count = o->column_count > 0 ? o->column_count : ELEMENTSOF(claim_members);
	int r = whole ? writer_fill_user(a->view, whole) : -ENOMEM;

	for (size_t i = 0; i < count && r == 0; i++) {
		const char *name = o->column_count > 0 ? o->columns[i] : claim_members[i];

		r = json_object_set(described, name, json_object_get(whole, name));
	}
	/* its times are not those of one claim then */
	if (r == 0 && o->column_count == 0 && claim_count(claim) > 1)
		r = json_object_set(described, "count", json_object_get(whole, "count"));
	json_decref(whole);
	if (r == 0)
		return described;
	json_decref(described);
	return NULL;
}

static bool has_process(const json_t *claim)
{
	const char *attribution = row_text(claim, "attribution");

	return row_int(claim, "pid", 0) > 0 || (attribution && streq(attribution, "kernel"));
}

static enum outcome outcome_of(const json_t *answer)
{
	const json_t *source = json_object_get(answer, "source"),
		     *destination = json_object_get(answer, "destination");
	const char *reason = row_text(answer, "reason");

	if (json_is_object(source) || json_is_object(destination))
		return (json_is_object(source) && has_process(source)) ||
				       (json_is_object(destination) && has_process(destination))
			       ? OUTCOME_PROCESS
			       : OUTCOME_NO_PROCESS;
	for (size_t i = OUTCOME_NOBODY; reason && i <= OUTCOME_EXPIRED; i++)
		if (streq(reason, outcomes[i].name))
			return (enum outcome)i;
	return OUTCOME_NOBODY;
}

/* The member that a record gets. NULL: no memory. */
static json_t *note_of(const struct annotate *a, const json_t *answer, enum outcome outcome)
{
	static const char *const ends[] = {"source", "destination"};
	json_t *note = json_object();
	int64_t others = row_int(answer, "others", 0);
	int r = 0;

	for (size_t i = 0; i < ELEMENTSOF(ends) && r == 0; i++) {
		const json_t *claim = json_object_get(answer, ends[i]);

		if (json_is_object(claim))
			r = json_object_set_new(note, ends[i], describe(a, claim));
	}
	if (r == 0 && others > 0)
		r = json_object_set_new(note, "others", json_integer(others));
	if (r == 0 && outcome != OUTCOME_PROCESS)
		r = json_object_set_new(note, "reason", json_string(outcomes[outcome].name));
	if (r == 0)
		return note;
	json_decref(note);
	return NULL;
}

static int write_answered(struct annotate *a, const struct line *line, const json_t *answer)
{
	const char *text = (const char *)buf_bytes(&a->bytes) + line->at;
	enum outcome outcome = outcome_of(answer);
	_cleanup_(json_decrefp) json_t *note = note_of(a, answer, outcome);
	_cleanup_(buf_done) struct buf b = {0};

	if (!note || buf_append_string(&b, ",\"" MEMBER "\":") < 0 || jsonout_put(&b, note, -1) < 0)
		return -ENOMEM;
	a->count[outcome]++;
	(void)fwrite(text, 1, line->brace, a->view->out);
	(void)fwrite(buf_bytes(&b), 1, buf_size(&b), a->view->out);
	(void)fwrite(text + line->brace, 1, line->size - line->brace, a->view->out);
	return 0;
}

/* Writes lines from *next on, up to the last that needs one of these answers. */
static int write_lines(struct annotate *a, size_t *next, const json_t *answers)
{
	size_t used = 0;

	for (; *next < a->lines; (*next)++) {
		const struct line *line = &a->line[*next];

		if (!line->asked) {
			(void)fwrite((const char *)buf_bytes(&a->bytes) + line->at, 1, line->size,
				a->view->out);
			continue;
		}
		if (used == json_array_size(answers))
			return 0;
		if (write_answered(a, line, json_array_get(answers, used++)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void drop_first(json_t *list, size_t count)
{
	while (count-- > 0)
		(void)json_array_remove(list, 0);
}

/* Answers the batch, and writes it. */
static enum status flush_batch(struct annotate *a)
{
	size_t next = 0;

	while (json_array_size(a->flows) > 0) {
		_cleanup_(json_decrefp) json_t *reply = NULL;
		const json_t *answers;
		enum status status = ask(a->connection, "Annotate",
			json_pack("{s:O}", "flows", a->flows), &shape_annotate, &reply);

		if (status != STATUS_FOUND)
			return status;
		answers = json_object_get(reply, "answers");
		if (json_array_size(answers) == 0 ||
			json_array_size(answers) > json_array_size(a->flows)) {
			complain("the daemon's answer is to another question");
			return STATUS_ERROR;
		}
		if (write_lines(a, &next, answers) < 0)
			return complain_memory();
		drop_first(a->flows, json_array_size(answers));
	}
	if (write_lines(a, &next, NULL) < 0)
		return complain_memory();
	a->lines = 0;
	buf_consume(&a->bytes, buf_size(&a->bytes));
	(void)fflush(a->view->out);
	return ferror(a->view->out) ? STATUS_ERROR : STATUS_FOUND;
}

static int add_flow(struct annotate *a, const struct sighted *s)
{
	json_t *flow =
		json_pack("{s:I,s:I,s:s,s:i,s:s,s:i}", "at_usec", (json_int_t)s->at, "until_usec",
			(json_int_t)s->until, "source", s->source, "source_port", s->source_port,
			"destination", s->destination, "destination_port", s->destination_port);

	a->first = MIN(a->first, s->at);
	a->last = MAX(a->last, s->until);
	flow = ask_about(flow, "protocol", s->protocol);
	return json_array_append_new(a->flows, flow) < 0 ? -ENOMEM : 0;
}

/* Whether the line is asked about; if not, it is counted as what it is. */
static int consider(struct annotate *a, const char *text, size_t size, bool *ret)
{
	_cleanup_(json_decrefp) json_t *record = NULL;
	struct sighted sighted;
	int r = json_read(text, size, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &record);

	*ret = false;
	if (r < 0)
		return r;
	if (r == 0 || !json_is_object(record)) {
		a->count[OUTCOME_NOT_JSON]++;
		return 0;
	}
	if (json_object_get(record, MEMBER)) {
		a->count[OUTCOME_ANNOTATED]++;
		return 0;
	}
	r = fields_sighted(&a->fields, record, &sighted);
	if (r < 0) {
		a->count[r == -ENODATA ? OUTCOME_NO_ENDS : OUTCOME_NO_TIME]++;
		return 0;
	}
	*ret = true;
	return add_flow(a, &sighted);
}

static enum status take_line(struct annotate *a, const char *text, size_t size)
{
	struct line *line;
	const char *brace;
	bool asked;

	if (a->lines == BATCH_LINES || json_array_size(a->flows) == BATCH_FLOWS ||
		buf_size(&a->bytes) + size > BATCH_BYTES) {
		enum status status = flush_batch(a);

		if (status != STATUS_FOUND)
			return status;
	}
	a->total++;
	if (consider(a, text, size, &asked) < 0)
		return complain_memory();
	line = &a->line[a->lines++];
	*line = (struct line){.at = buf_size(&a->bytes), .size = size, .asked = asked};
	brace = asked ? memrchr(text, '}', size) : NULL;
	line->brace = brace ? (size_t)(brace - text) : size;
	return buf_append(&a->bytes, text, size) < 0 ? complain_memory() : STATUS_FOUND;
}

/* A line that is longer than any record: as it came. */
static enum status take_part(struct annotate *a, const char *text, size_t size, bool first)
{
	enum status status = first ? flush_batch(a) : STATUS_FOUND;

	a->total += first;
	a->count[OUTCOME_LONG] += first;
	(void)fwrite(text, 1, size, a->view->out);
	return status;
}

static enum status annotate_all(struct annotate *a, struct lines *input)
{
	enum status status = STATUS_FOUND;
	bool in_part = false;
	const char *text;
	size_t size;
	int r;

	while (status == STATUS_FOUND) {
		enum lines_is is = lines_next(input, in_part, &text, &size);

		switch (is) {
		case LINES_LINE:
			status = in_part ? take_part(a, text, size, false)
					 : take_line(a, text, size);
			in_part = false;
			break;
		case LINES_PART:
			status = take_part(a, text, size, !in_part);
			in_part = true;
			break;
		case LINES_WAIT:
			r = lines_read(input, a->lines > 0 ? PAUSE_MSEC : -1);
			if (r < 0) {
				complain("standard input: %s", strerror(-r));
				return STATUS_ERROR;
			}
			if (r == 0)
				status = flush_batch(a);
			break;
		case LINES_END:
			return flush_batch(a);
		}
	}
	return status;
}

/* The counts, for people or as an object. */
static void print_summary(const struct annotate *a)
{
	_cleanup_(buf_done) struct buf b = {0};
	bool json = a->options->output != OUTPUT_TABLE;
	char count[FORMAT_MAX];
	const char *between = "";
	int r = json ? buf_append_format(
			       &b, "{\"summary\":{\"lines\":%llu", (unsigned long long)a->total)
		     : buf_append_format(&b, "%s line%s: ", format_count(a->total, count),
			       format_plural(a->total));

	for (size_t i = 0; i < OUTCOME_COUNT && r == 0; i++) {
		if (json)
			r = buf_append_format(&b, ",\"%s\":%llu", outcomes[i].name,
				(unsigned long long)a->count[i]);
		if (json || (a->count[i] == 0 && i != OUTCOME_PROCESS))
			continue;
		r = buf_append_format(
			&b, "%s%s %s", between, format_count(a->count[i], count), outcomes[i].text);
		between = ", ";
	}
	if (r == 0)
		r = buf_append_string(&b, json ? "}}" : ".");
	if (r < 0 || buf_put_u8(&b, 0) < 0)
		(void)complain_memory();
	else if (json)
		fprintf(a->view->notes, "%s\n", (const char *)buf_bytes(&b));
	else
		view_wrapped(a->view, a->view->notes, (const char *)buf_bytes(&b), 0, 2);
}

/* The receipt of the whole log; none where nothing was asked. */
static enum status print_receipt(const struct annotate *a, json_t *receipts)
{
	_cleanup_(json_decrefp) json_t *reply = NULL;
	enum status status;

	if (a->last == 0)
		return STATUS_FOUND;
	/* what is said to be of the future cannot be asked about */
	status = ask(a->connection, "Receipt",
		json_pack("{s:I,s:I}", "since_usec", (json_int_t)MIN(a->first, a->view->now),
			"until_usec", (json_int_t)(a->last + 1)),
		&shape_receipt, &reply);
	if (status != STATUS_FOUND)
		return status;
	if (json_array_append(receipts, json_object_get(reply, "coverage")) < 0)
		return complain_memory();
	if (a->options->output == OUTPUT_TABLE)
		return writer_receipts(a->view, a->view->notes, receipts) < 0 ? complain_memory()
									      : STATUS_FOUND;
	json_dumpf(reply, a->view->notes, JSON_COMPACT);
	fputc('\n', a->view->notes);
	return STATUS_FOUND;
}

static enum status finish(struct annotate *a)
{
	_cleanup_(json_decrefp) json_t *receipts = json_array();
	enum status status;

	if (!a->options->no_legend)
		print_summary(a);
	if (!a->options->no_legend && a->options->output == OUTPUT_TABLE &&
		a->count[OUTCOME_NOBODY] + a->count[OUTCOME_UNWATCHED] > 0)
		translated_say(a->view, a->view->notes);
	status = print_receipt(a, receipts);
	if (status != STATUS_FOUND)
		return status;
	return answer_status(a->options, (size_t)a->count[OUTCOME_PROCESS], receipts);
}

static enum status start(struct annotate *a)
{
	const struct options *o = a->options;
	const char *wrong;
	int r = fields_parse(o->fields ? o->fields : "eve", &a->fields, &wrong);

	if (r == -EINVAL) {
		complain(
			"--fields: not eve, ek, zeek or NAME=PATH,... (see the manual): %s", wrong);
		return STATUS_USAGE;
	}
	a->flows = json_array();
	if (r < 0 || !a->flows)
		return complain_memory();
	for (size_t i = 0; i < o->column_count; i++)
		if (!shape_find(&shape_claim, o->columns[i])) {
			complain("there is no column %s; the manual lists them", o->columns[i]);
			return STATUS_USAGE;
		}
	return STATUS_FOUND;
}

enum status verb_annotate(const struct options *o, struct view *v)
{
	_cleanup_(connection_done) struct connection c = CONNECTION_NONE;
	struct annotate *a = calloc(1, sizeof(*a));
	struct lines input = {0};
	enum status status;

	if (!a)
		return complain_memory();
	a->options = o;
	a->view = v;
	a->connection = &c;
	a->first = USEC_UNSET;
	status = start(a);
	if (status == STATUS_FOUND && lines_init(&input, STDIN_FILENO) < 0)
		status = complain_memory();
	if (status == STATUS_FOUND)
		status = ask_open(o, false, &c);
	if (status == STATUS_FOUND)
		status = annotate_all(a, &input);
	if (status == STATUS_FOUND)
		status = finish(a);
	lines_done(&input);
	fields_done(&a->fields);
	json_decref(a->flows);
	buf_done(&a->bytes);
	free(a);
	return status;
}
