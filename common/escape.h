/* SPDX-License-Identifier: MIT */
#pragma once

/* Names are attackers' bytes. They are stored reversibly as printable UTF-8, and escaped again at each output
 * edge by exactly one function. */

#include "common/base.h"

struct buf;

/* The stored form of a raw name (comm, exe, cgroup path ...): printable UTF-8 without any control character.
 * A backslash becomes `\\`; every byte of what is not valid UTF-8, of a C0 or C1 control, of DEL, and of
 * U+061C, U+200B-U+200F, U+2028-U+202E, U+2060-U+2069, U+FEFF and U+FFF9-U+FFFB becomes `\xHH` (lower case).
 * `raw` may hold NUL bytes. The result is NUL-terminated and at most `max` bytes long without its NUL; what
 * does not fit is cut at a character or escape boundary. NULL: no memory. */
char *escape_store(const void *raw, size_t size, size_t max);

/* The raw bytes of a stored form; the inverse of an uncut escape_store(). Unknown escapes are kept as they are.
 * `*ret_size` excludes the NUL that is added. NULL: no memory. */
char *escape_restore(const char *stored, size_t *ret_size);

/* Output edges. Each takes any bytes (not only stored forms), returns fresh memory or NULL (no memory), and
 * leaves a stored form as it is, but for what its own syntax needs. */

/* For a terminal, a log line, a field of the journal and a table cell: what escape_store() escapes is escaped, but a backslash is left. */
char *escape_terminal(const char *text);

/* One CSV field (RFC 4180): as escape_terminal(), a leading `=`, `+`, `-` or `@` becomes `\xHH` (a spreadsheet
 * would run it), and the field is quoted where it holds a comma, a quote or a space at an end. */
char *escape_csv(const char *text);

/* Text or the value of a quoted attribute in HTML and in SVG: as escape_terminal(), and `&`, `<`, `>`, `"` and `'` become
 * character references. */
char *escape_html(const char *text);

/* Appends a JSON string with its quotes (RFC 8259); a byte that is not UTF-8 becomes U+FFFD, a character that
 * escape_store() would escape becomes \uXXXX. 0 or -ENOMEM. */
int escape_json(struct buf *b, const char *text) _must_check_;
