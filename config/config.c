/* SPDX-License-Identifier: MIT */

/*
 * inih divides lines into sections, keys and values. Debian compiles it with a line buffer of 200 bytes, handlers that are
 * not told the line, and continuation lines. Left to itself it would cut a longer line, read its rest as a line of its own
 * or drop it, take an indented setting for more of the value above, and never mention a section that has no keys. So
 * inih gets its lines from us, one at a time: we count them, and refuse what it would misread before it sees it.
 *
 * A configuration is built aside and handed over whole, so that a reload with a bad file changes nothing.
 */

#include "config/config.h"

#include <dirent.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "config/settings.h"

static const char blanks[] = " \t\r\v\f";

/* One file on its way into a configuration. */
struct reading {
	struct config *config;
	const char *name;
	const char *next, *end; /* what is not yet read */
	uint32_t file, line; /* index into config->files; of the line that was read last, from 1 */
	int error;           /* 0: none yet; the first one counts */
	uint32_t error_line; /* where it is */
	char *text;          /* what it is; owned */
};

static char *format_error(const char *name, uint32_t line, const char *format, va_list arguments)
	_printf_(3, 0);
static char *format_error(const char *name, uint32_t line, const char *format, va_list arguments)
{
	_cleanup_(free_p) char *what = NULL;
	char *text;
	int r;

	if (vasprintf(&what, format, arguments) < 0) {
		what = NULL;
		return NULL;
	}
	r = line > 0 ? asprintf(&text, "%s:%" PRIu32 ": %s", name, line, what)
		     : asprintf(&text, "%s: %s", name, what);
	return r < 0 ? NULL : text;
}

/* Keeps the first error of a file. */
static void refuse(struct reading *r, uint32_t line, const char *format, ...) _printf_(3, 4);
static void refuse(struct reading *r, uint32_t line, const char *format, ...)
{
	va_list arguments;

	if (r->error < 0)
		return;
	va_start(arguments, format);
	r->text = format_error(r->name, line, format, arguments);
	va_end(arguments);
	r->error = r->text ? -EINVAL : -ENOMEM;
	r->error_line = line;
}

/* An error about a whole file. Returns `error`, or -ENOMEM. */
static int fail(const char *name, int error, char **ret_error, const char *format, ...)
	_printf_(4, 5);
static int fail(const char *name, int error, char **ret_error, const char *format, ...)
{
	va_list arguments;

	if (error == -ENOMEM)
		return error;
	va_start(arguments, format);
	*ret_error = format_error(name, 0, format, arguments);
	va_end(arguments);
	return *ret_error ? error : -ENOMEM;
}

/* "[Section]": inih tells of one only where a key follows, and ignores what stands behind the bracket. */
static void check_section(struct reading *r, const char *line)
{
	_cleanup_(free_p) char *section = NULL;
	const char *end = strchr(line, ']'), *behind;

	/* without a bracket, inih refuses it */
	if (!end)
		return;
	section = strndup(line + 1, (size_t)(end - line - 1));
	if (!section) {
		r->error = -ENOMEM;
		return;
	}
	behind = end + 1 + strspn(end + 1, blanks);
	if (!settings_has_section(section))
		refuse(r, r->line, "there is no section [%s]", section);
	else if (*behind != '\0' && *behind != ';' && *behind != '#')
		refuse(r, r->line, "'%s' stands behind the section", behind);
}

/* What inih would misread. `line` ends with a NUL. */
static void check_line(struct reading *r, const char *line, size_t size)
{
	const char *start = line + strspn(line, blanks);

	if (strlen(line) != size)
		refuse(r, r->line, "there is a NUL byte");
	else if (start > line && *start != '\0' && *start != ';' && *start != '#')
		refuse(r, r->line, "the line begins with a blank");
	else if (*line == '[')
		check_section(r, line);
}

/* inih's reader: the next line, without its end; NULL after the last one and after an error. */
static char *next_line(char *line, int room, void *stream)
{
	struct reading *r = stream;
	const char *end;
	size_t size;

	if (r->error < 0 || r->next == r->end)
		return NULL;
	end = memchr(r->next, '\n', (size_t)(r->end - r->next));
	size = (size_t)((end ? end : r->end) - r->next);
	r->line++;
	/* as ini.h has it: INI_MAX_LINE is 3 more than the longest line */
	if (size + 3 > (size_t)room) {
		refuse(r, r->line, "the line is longer than %d bytes", room - 3);
		return NULL;
	}
	memcpy(line, r->next, size);
	line[size] = '\0';
	r->next += end ? size + 1 : size;
	check_line(r, line, size);
	return r->error < 0 ? NULL : line;
}

/* inih's handler: 1 goes on, 0 is an error. */
static int on_setting(void *context, const char *section, const char *key, const char *value)
{
	struct reading *r = context;
	const struct setting *s;
	enum setting_id id;
	int error;

	if (*section == '\0') {
		refuse(r, r->line, "'%s' stands before any section", key);
		return 0;
	}
	if (settings_find(section, key, &id) < 0) {
		refuse(r, r->line, "there is no setting '%s' in [%s]", key, section);
		return 0;
	}
	s = &settings_table[id];
	error = setting_parse(r->config, id, value);
	if (error == -ENOMEM)
		r->error = error;
	else if (error == -ERANGE)
		refuse(r, r->line, "%s=%s is out of range (%s)", key, value, s->range);
	else if (error < 0)
		refuse(r, r->line, "%s=%s is not %s (%s)", key, value, s->kind->expects, s->range);
	else
		r->config->origin[id] = (struct config_origin){r->file, r->line};
	return error >= 0;
}

static int add_file(struct config *c, const char *name)
{
	char **files = reallocarray(c->files, c->file_count + 1, sizeof(*files));

	if (!files)
		return -ENOMEM;
	c->files = files;
	files[c->file_count] = strdup(name);
	if (!files[c->file_count])
		return -ENOMEM;
	c->file_count++;
	return 0;
}

/* Reads one file over what `c` holds. On failure `c` is good for config_done() only. */
static int parse_over(
	struct config *c, const char *name, const void *data, size_t size, char **ret_error)
{
	struct reading r = {
		.config = c, .name = name, .next = data, .end = (const char *)data + size};
	int n;

	n = add_file(c, name);
	if (n < 0)
		return n;
	r.file = (uint32_t)(c->file_count - 1);
	/* inih allows a byte order mark, but check_section() would not see the bracket behind it */
	if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
		r.next += 3;
	n = ini_parse_stream(next_line, &r, on_setting, &r);
	/* n is the line of the first error, inih's own included: what we refused later does not count */
	if (n > 0 && r.error == -EINVAL && (uint32_t)n < r.error_line) {
		free(TAKE_PTR(r.text));
		r.error = 0;
	}
	if (n > 0)
		refuse(&r, (uint32_t)n, "this is neither [Section] nor Setting=value");
	else if (n < 0) /* before it read a line: it had no memory for one */
		r.error = -ENOMEM;
	if (r.error < 0)
		*ret_error = r.text;
	return r.error;
}

/* The defaults, as if they had been read. */
static int config_init(struct config *c)
{
	*c = (struct config){0};
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		int r = setting_parse(c, (enum setting_id)i, settings_table[i].initial);

		if (r == -ENOMEM)
			return r;
		assert(r == 0);
		c->origin[i] = (struct config_origin){.file = ORIGIN_DEFAULT};
	}
	return 0;
}

void config_done(struct config *c)
{
	for (size_t i = 0; i < c->file_count; i++)
		free(c->files[i]);
	free(c->files);
	*c = (struct config){0};
}

/* Hands a finished configuration over. */
static void config_take(struct config *c, struct config *ret)
{
	*ret = *c;
	*c = (struct config){0};
}

int config_parse(
	const char *name, const void *data, size_t size, struct config *ret, char **ret_error)
{
	_cleanup_(config_done) struct config c = {0};
	int r;

	*ret_error = NULL;
	if (size > LIMIT_CONFIG_BYTES)
		return fail(name, -EFBIG, ret_error, "more than %u bytes", LIMIT_CONFIG_BYTES);
	r = config_init(&c);
	if (r >= 0)
		r = parse_over(&c, name, data, size, ret_error);
	if (r >= 0)
		config_take(&c, ret);
	return r;
}

/* Whoever may write it says what is recorded, and of whom. A device or a pipe is not kept: what comes from it is the caller's choice. */
static bool is_everybodys(int fd)
{
	struct stat st = {0};

	(void)fstat(fd, &st);
	return (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && st.st_mode & S_IWOTH;
}

enum which_file {
	FILE_DEFAULT, /* nobody named it: it may be missing */
	FILE_GIVEN,
	FILE_DROP_IN,
};

static bool is_fifo(int fd)
{
	struct stat st = {0};

	(void)fstat(fd, &st);
	return S_ISFIFO(st.st_mode);
}

/* Appends a whole file, or as much of it as shows that it is too large. Only for one that was named somebody waits until it is
 * written: to find a pipe among the others must stop neither a start nor, worse, the recording when it is reloaded. */
static int read_file(const char *path, enum which_file which, struct buf *b)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | (which == FILE_GIVEN ? 0 : O_NONBLOCK);
	_cleanup_(close_p) int fd = open(path, flags);
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (is_everybodys(fd))
		return -EPERM;
	if (which != FILE_GIVEN && is_fifo(fd))
		return -ESPIPE;
	do {
		void *room = buf_reserve(b, 4096);

		if (!room)
			return -ENOMEM;
		n = read(fd, room, 4096);
		if (n < 0)
			return -errno;
		buf_grow(b, (size_t)n);
	} while (n > 0 && buf_size(b) <= LIMIT_CONFIG_BYTES);
	return buf_size(b) > LIMIT_CONFIG_BYTES ? -EFBIG : 0;
}

static int load_over(struct config *c, const char *path, enum which_file which, char **ret_error)
{
	_cleanup_(buf_done) struct buf b = {0};
	int r;

	r = read_file(path, which, &b);
	if (r == -ENOENT && which == FILE_DEFAULT)
		return 0;
	if (r == -EPERM)
		return fail(path, r, ret_error, "everybody may write it: chmod o-w");
	if (r == -EFBIG)
		return fail(path, r, ret_error, "more than %u bytes", LIMIT_CONFIG_BYTES);
	if (r == -ESPIPE)
		return fail(path, r, ret_error, "it is a pipe");
	if (r < 0)
		return fail(path, r, ret_error, "%s", strerror(-r));
	return parse_over(c, path, buf_bytes(&b), buf_size(&b), ret_error);
}

static int is_drop_in(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return entry->d_name[0] != '.' && length > strlen(".conf") &&
	       streq(entry->d_name + length - strlen(".conf"), ".conf");
}

/* alphasort() would ask the locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_drop_in(struct config *c, const char *directory, const char *name, char **ret_error)
{
	_cleanup_(free_p) char *path = NULL;

	if (asprintf(&path, "%s/%s", directory, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return load_over(c, path, FILE_DROP_IN, ret_error);
}

static int load_drop_ins(struct config *c, const char *main_file, char **ret_error)
{
	_cleanup_(free_p) char *directory = NULL;
	_cleanup_(close_p) int fd = -1;
	struct dirent **entries = NULL;
	int count, r = 0;

	if (asprintf(&directory, "%s.d", main_file) < 0) {
		directory = NULL;
		return -ENOMEM;
	}
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && is_everybodys(fd))
		return fail(directory, -EPERM, ret_error, "everybody may write there: chmod o-w");
	count = scandir(directory, &entries, is_drop_in, by_bytes);
	if (count < 0)
		return errno == ENOENT ? 0
				       : fail(directory, -errno, ret_error, "%s", strerror(errno));
	if ((unsigned)count >= LIMIT_CONFIG_FILES)
		r = fail(
			directory, -EFBIG, ret_error, "more than %u files", LIMIT_CONFIG_FILES - 1);
	for (int i = 0; i < count; i++) {
		if (r >= 0)
			r = load_drop_in(c, directory, entries[i]->d_name, ret_error);
		free(entries[i]);
	}
	free(entries);
	return r;
}

int config_load(const char *path, bool must_exist, struct config *ret, char **ret_error)
{
	_cleanup_(config_done) struct config c = {0};
	int r;

	*ret_error = NULL;
	r = config_init(&c);
	if (r >= 0)
		r = load_over(&c, path, must_exist ? FILE_GIVEN : FILE_DEFAULT, ret_error);
	if (r >= 0)
		r = load_drop_ins(&c, path, ret_error);
	if (r >= 0)
		config_take(&c, ret);
	return r;
}

char *config_format(const struct config *c)
{
	const char *section = "";
	struct buf b = {0};
	int r = 0;

	for (size_t i = 0; i < SETTING_COUNT && r >= 0; i++) {
		const struct setting *s = &settings_table[i];

		if (!streq(section, s->section))
			r = buf_append_format(&b, "%s[%s]\n", i > 0 ? "\n" : "", s->section);
		section = s->section;
		if (r >= 0)
			r = buf_append_format(&b, "%s=", s->key);
		if (r >= 0)
			r = s->kind->format((const char *)c + s->offset, &b);
		if (r >= 0)
			r = buf_append_string(&b, "\n");
	}
	if (r >= 0)
		r = buf_put_u8(&b, 0);
	if (r < 0)
		buf_done(&b);
	/* never consumed from: its start is the allocation's */
	return (char *)b.data;
}

char *config_origin_format(const struct config *c, enum setting_id id)
{
	const struct config_origin *origin = &c->origin[id];
	char *text;

	if (origin->file == ORIGIN_DEFAULT)
		return strdup("default");
	assert(origin->file < c->file_count);
	if (asprintf(&text, "%s:%" PRIu32, c->files[origin->file], origin->line) < 0)
		return NULL;
	return text;
}

/* One of the two for which EXPLICIT_RANGES_MAX leaves room. */
static void add_range(struct port_ranges *ranges, struct port_range range)
{
	int r = ranges_add(ranges, range);

	assert(r == 0);
}

int config_ranges(const struct config *c, struct port_range kernel, struct port_ranges *ret)
{
	static const struct port_range iana = {49152, 65535};
	struct port_ranges ranges = c->ranges.explicit;

	if (c->ranges.kernel && (kernel.low == 0 || kernel.low > kernel.high))
		return -EINVAL;
	if (c->ranges.iana)
		add_range(&ranges, iana);
	if (c->ranges.kernel)
		add_range(&ranges, kernel);
	*ret = ranges;
	return 0;
}
