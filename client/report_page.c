/* SPDX-License-Identifier: MIT */

/* The document around the pictures: what it is about, the receipt, each picture with its numbers. */

#include "client/cells.h"
#include "client/format.h"
#include "client/page_css.h"
#include "client/picture_css.h"
#include "client/receipt.h"
#include "client/report.h"
#include "client/shape.h"
#include "client/users.h"

#include <time.h>

#define FIGURES      4u
#define LINE_COLUMNS 128u /* of the fonts in an SVG */
#define LINE         160

void figure_done(struct figure *f)
{
	free(f->note);
	if (f->free)
		f->free(f->data);
	else
		free(f->data);
	*f = (struct figure){0};
}

char *report_program(const struct report *r, const json_t *row)
{
	return cell_program(row, r->view);
}

char *report_user(const struct report *r, const json_t *row)
{
	int64_t uid = row_int(row, "uid", -1);
	const char *name;
	char *text = NULL;

	if (uid < 0)
		return NULL;
	name = r->view->users ? users_name(r->view->users, (uint32_t)uid) : NULL;
	if (name)
		return strdup(name);
	return asprintf(&text, "%lld", (long long)uid) < 0 ? NULL : text;
}

void sheet_table(struct sheet *s, const char *caption)
{
	sheet_put(s, "<table><caption>");
	sheet_text(s, caption);
	sheet_put(s, "</caption>\n<thead><tr>");
}

void sheet_heading(struct sheet *s, const char *text)
{
	sheet_put(s, "<th scope='col'>");
	sheet_text(s, text);
	sheet_put(s, "</th>");
}

void sheet_cell(struct sheet *s, const char *text)
{
	sheet_put(s, "<td><bdi>");
	sheet_text(s, text);
	sheet_put(s, "</bdi></td>");
}

/* None is an empty cell: what there is is found sooner. */
void sheet_count(struct sheet *s, uint64_t count)
{
	char text[FORMAT_MAX];

	sheet_put(s, "<td class='n'>%s</td>", count ? format_count(count, text) : "");
}

void sheet_time(struct sheet *s, usec_t at)
{
	char text[FORMAT_TIME_MAX];

	sheet_put(s, "<td>%s</td>", at == USEC_UNSET ? "" : format_moment(at, USEC_UNSET, text));
}

/* "Sat 21 Nov 2026 18:00 to Sun 22 Nov 2026 09:00, CET" */
static int put_window(const struct report *r, struct buf *b)
{
	char from[AXIS_MOMENT_MAX], until[AXIS_MOMENT_MAX];
	time_t seconds = (time_t)(r->window.until / USEC_PER_SEC);
	struct tm tm;

	return buf_append_format(b, "%s to %s, %s", axis_moment(r->window.from, from),
		axis_moment(r->window.until, until), localtime_r(&seconds, &tm) ? tm.tm_zone : "?");
}

/* What the question was narrowed to: "--app curl --proto tcp"; nothing where it was not. */
static int put_filters(const struct options *o, struct buf *b)
{
	const struct {
		const char *name, *value;
	} texts[] = {{"app", o->app}, {"unit", o->unit}, {"proto", o->protocol},
		{"addr", o->address}, {"peer", o->peer}, {"netns", o->netns}, {"role", o->role},
		{"range", o->range}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->port_count; i++)
		r = buf_append_format(b, "%sport %u", buf_size(b) ? ", " : "", o->ports[i]);
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(texts); i++)
		if (texts[i].value)
			r = buf_append_format(b, "%s%s %s", buf_size(b) ? ", " : "", texts[i].name,
				texts[i].value);
	if (r == 0 && o->peer_port)
		r = buf_append_format(b, "%speer port %u", buf_size(b) ? ", " : "", o->peer_port);
	if (r == 0 && o->uid >= 0)
		r = buf_append_format(b, "%suid %lld", buf_size(b) ? ", " : "", (long long)o->uid);
	if (r == 0 && o->pid >= 0)
		r = buf_append_format(b, "%spid %lld", buf_size(b) ? ", " : "", (long long)o->pid);
	return r;
}

/* The words of a document: what and when, on which host, the receipt. Each a line of its own. */
struct words {
	struct buf what, where, receipt; /* with their NUL */
};

static void words_done(struct words *w)
{
	buf_done(&w->what);
	buf_done(&w->where);
	buf_done(&w->receipt);
}

static int make_words(const struct report *r, struct words *w)
{
	const json_t *coverage = json_object_get(r->activity, "coverage"), *reason;
	_cleanup_(buf_done) struct buf filters = {0};
	int e = put_window(r, &w->what);
	size_t i;

	if (e == 0)
		e = put_filters(r->view->options, &filters);
	if (e == 0)
		e = buf_append_string(&w->where, r->host ? r->host : "");
	if (e == 0 && buf_size(&filters) > 0)
		e = buf_append_format(&w->where, "%sonly %.*s", r->host ? ", " : "",
			(int)buf_size(&filters), (const char *)buf_bytes(&filters));
	if (e == 0)
		e = receipt_text(coverage, r->view, &w->receipt);
	json_array_foreach(json_object_get(coverage, "degraded"), i, reason)
	{
		if (e == 0)
			e = buf_append_format(
				&w->receipt, "; degraded: %s", json_string_value(reason));
	}
	if (e == 0)
		e = buf_put_u8(&w->what, 0);
	if (e == 0)
		e = buf_put_u8(&w->where, 0);
	return e == 0 ? buf_put_u8(&w->receipt, 0) : e;
}

static const char *text_of(const struct buf *b)
{
	return (const char *)buf_bytes(b);
}

/* How many programs have a name. */
static uint64_t program_total(const struct report *r)
{
	const json_t *row;
	size_t i;
	uint64_t count = (uint64_t)row_int(r->activity, "omitted", 0);

	json_array_foreach(json_object_get(r->activity, "programs"), i, row) count +=
		row_text(row, "exe") || row_text(row, "comm");
	return count;
}

static const struct {
	const char *one, *rest; /* "claim", " without a process" */
	const char *member;     /* of the activity; NULL: programs */
} facts[] = {{"claim", "", "claims"}, {"port", "", "ports"}, {"program", "", NULL},
	{"claim", " without a process", "unattributed"}};

static uint64_t fact(const struct report *r, size_t i)
{
	return facts[i].member ? (uint64_t)row_int(r->activity, facts[i].member, 0)
			       : program_total(r);
}

static const char *fact_plural(const struct report *r, size_t i)
{
	return format_plural(fact(r, i));
}

static void put_defs(struct sheet *s)
{
	sheet_put(s,
		"<defs><pattern id='hatch' width='6' height='6' patternUnits='userSpaceOnUse'"
		" patternTransform='rotate(45)'><path class='stripe' d='M0 0V6' stroke-width='2'"
		" stroke-opacity='.55'/></pattern></defs>\n");
}

static void put_header(struct sheet *s, const struct report *r, const struct words *w)
{
	const json_t *coverage = json_object_get(r->activity, "coverage");
	char count[FORMAT_MAX];

	sheet_put(s, "<header><h1>Ports: <bdi>");
	sheet_text(s, text_of(&w->what));
	sheet_put(s, "</bdi></h1>\n<p><bdi>");
	sheet_text(s, text_of(&w->where));
	sheet_put(s, "</bdi></p>\n<dl class='facts'>");
	for (size_t i = 0; i < ELEMENTSOF(facts); i++)
		sheet_put(s, "<div><dt>%s%s%s</dt><dd>%s</dd></div>", facts[i].one,
			fact_plural(r, i), facts[i].rest, format_count(fact(r, i), count));
	sheet_put(s, "</dl>\n<p class='receipt%s'>", receipt_complete(coverage) ? "" : " partial");
	sheet_text(s, text_of(&w->receipt));
	sheet_put(s, "</p></header>\n");
}

static void put_figure(struct sheet *s, const struct figure *f)
{
	sheet_put(s, "<figure id='%s'><figcaption><h2>%s</h2><p class='note'>", f->id, f->title);
	sheet_text(s, f->note);
	sheet_put(s,
		"</p></figcaption>\n<div class='scroll' tabindex='0' role='region' aria-label='%s'>"
		"<svg viewBox='0 0 " PX " " PX "' role='img' aria-labelledby='%s-title'>"
		"<title id='%s-title'>%s</title>\n",
		f->title, PX_OF(PICTURE_WIDTH), PX_OF(f->height), f->id, f->id, f->title);
	f->draw(s, f);
	sheet_put(s,
		"</svg></div>\n<details><summary>The numbers</summary><div class='scroll' tabindex='0'"
		" role='region' aria-label='Numbers of: %s'>\n",
		f->title);
	f->table(s, f);
	sheet_put(s, "</div></details></figure>\n");
}

/* All that was and was not watched, where the receipt above only counts. */
static void put_coverage(struct sheet *s, const json_t *coverage)
{
	const json_t *row;
	size_t i;

	sheet_put(s,
		"<details id='coverage'><summary>What was watched</summary><div class='scroll' tabindex='0'"
		" role='region' aria-label='What was watched'>\n");
	sheet_table(s, "Stretches in which we watched");
	sheet_heading(s, "From");
	sheet_heading(s, "Until");
	sheet_heading(s, "By");
	sheet_put(s, "</tr></thead>\n<tbody>\n");
	json_array_foreach(json_object_get(coverage, "stretches"), i, row)
	{
		char way[FORMAT_WAY_MAX];

		sheet_put(s, "<tr>");
		sheet_time(s, row_time(row, "from_usec"));
		sheet_time(s, row_time(row, "until_usec"));
		sheet_cell(s, format_way(row_text(row, "source"),
				      (usec_t)row_int(row, "interval_usec", 0), way));
		sheet_put(s, "</tr>\n");
	}
	sheet_put(s, "</tbody></table>\n");
	sheet_table(s, "Gaps, in which claims may have been missed");
	sheet_heading(s, "From");
	sheet_heading(s, "Until");
	sheet_heading(s, "Reason");
	sheet_heading(s, "Lost");
	sheet_put(s, "</tr></thead>\n<tbody>\n");
	json_array_foreach(json_object_get(coverage, "gaps"), i, row)
	{
		sheet_put(s, "<tr>");
		sheet_time(s, row_time(row, "from_usec"));
		sheet_time(s, row_time(row, "until_usec"));
		sheet_cell(s, row_text(row, "reason"));
		if (json_is_integer(json_object_get(row, "lost")))
			sheet_count(s, (uint64_t)row_int(row, "lost", 0));
		else
			sheet_cell(s, "not known");
		sheet_put(s, "</tr>\n");
	}
	sheet_put(s, "</tbody></table></div></details>\n");
}

static void write_html(struct sheet *s, const struct report *r, const struct words *w,
	const struct figure *figures, size_t count)
{
	sheet_put(s, "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
		     "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none';"
		     " style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
		     "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
		     "<meta name='color-scheme' content='light dark'>\n"
		     "<meta name='referrer' content='no-referrer'>\n<title>Ports: ");
	sheet_text(s, text_of(&w->what));
	sheet_put(s, "</title>\n<style>\n%s%s</style>\n</head>\n<body>\n", page_css, picture_css);
	sheet_put(s, "<svg width='0' height='0' aria-hidden='true' style='position:absolute'>");
	put_defs(s);
	sheet_put(s, "</svg>\n");
	put_header(s, r, w);
	sheet_put(s, "<main>\n");
	for (size_t i = 0; i < count; i++)
		put_figure(s, &figures[i]);
	sheet_put(s, "</main>\n");
	put_coverage(s, json_object_get(r->activity, "coverage"));
	sheet_put(s, "</body>\n</html>\n");
}

/* Title, facts and receipt of an SVG, from 0 down, as lines; without a sheet they are only measured. Returns the height. */
static int lay_header(struct sheet *s, const struct report *r, const struct words *w)
{
	char line[256], count[4][FORMAT_MAX];
	int y = 360;

	y += sheet_lines(s, 200, y, 200, 96, "title", text_of(&w->what)) * 220;
	y += sheet_lines(s, 200, y, LINE, LINE_COLUMNS, "muted", text_of(&w->where)) * LINE;
	snprintf(line, sizeof(line),
		"%s claim%s of %s port%s by %s program%s; %s claim%s without a process",
		format_count(fact(r, 0), count[0]), fact_plural(r, 0),
		format_count(fact(r, 1), count[1]), fact_plural(r, 1),
		format_count(fact(r, 2), count[2]), fact_plural(r, 2),
		format_count(fact(r, 3), count[3]), fact_plural(r, 3));
	y += sheet_lines(s, 200, y, LINE, LINE_COLUMNS, "", line) * LINE;
	y += sheet_lines(s, 200, y, LINE, LINE_COLUMNS, "", text_of(&w->receipt)) * LINE;
	return y;
}

/* The same of a picture. */
static int lay_figure(struct sheet *s, const struct figure *f, int y)
{
	y += 420;
	if (s)
		sheet_label(s, 200, y, "title", f->title);
	y += 220;
	y += sheet_lines(s, 200, y, LINE, LINE_COLUMNS, "muted", f->note) * LINE;
	if (s) {
		sheet_put(s, "<g id='%s' transform='translate(20 " PX ")'>\n", f->id, PX_OF(y));
		f->draw(s, f);
		sheet_put(s, "</g>\n");
	}
	return y + f->height;
}

static int lay_svg(struct sheet *s, const struct report *r, const struct words *w,
	const struct figure *figures, size_t count)
{
	int y = lay_header(s, r, w);

	for (size_t i = 0; i < count; i++)
		y = lay_figure(s, &figures[i], y);
	return y + 200;
}

static void write_svg(struct sheet *s, const struct report *r, const struct words *w,
	const struct figure *figures, size_t count)
{
	int height = lay_svg(NULL, r, w, figures, count), width = PICTURE_WIDTH + 400;

	sheet_put(s,
		"<?xml version='1.0' encoding='UTF-8'?>\n<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " PX
		" " PX "' width='" PX "' height='" PX "'>\n<title>Ports: ",
		PX_OF(width), PX_OF(height), PX_OF(width), PX_OF(height));
	sheet_text(s, text_of(&w->what));
	sheet_put(s, "</title>\n<style>\n%s</style>\n", picture_css);
	put_defs(s);
	sheet_rect(s, 0, 0, width, height, "paper", NULL);
	(void)lay_svg(s, r, w, figures, count);
	sheet_put(s, "</svg>\n");
}

int report_write(const struct report *r, enum report_form form, FILE *out)
{
	static int (*const makers[FIGURES])(const struct report *r, struct figure *ret) = {
		report_programs, report_pressure, report_ports, report_timeline};
	struct sheet s = {.out = out, .view = r->view};
	_cleanup_(words_done) struct words words = {0};
	struct figure figures[FIGURES] = {0};
	size_t count = 0;
	int e = make_words(r, &words);

	for (size_t i = 0; e == 0 && i < FIGURES; i++) {
		if (makers[i] == report_timeline && !r->claims)
			continue;
		e = makers[i](r, &figures[count]);
		count += e == 0;
	}
	if (e == 0 && form == REPORT_HTML)
		write_html(&s, r, &words, figures, count);
	else if (e == 0)
		write_svg(&s, r, &words, figures, count);
	for (size_t i = 0; i < count; i++)
		figure_done(&figures[i]);
	return e < 0 || s.failed ? -ENOMEM : 0;
}
