/* SPDX-License-Identifier: MIT */

#include "daemon/state.h"

#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/log.h"
#include "daemon/schema.h"

/* Of a file of SQLite's, https://www.sqlite.org/fileformat2.html section 1.3: numbers of 4 bytes, big-endian. */
#define HEADER_BYTES       100u
#define HEADER_VERSION     60u
#define HEADER_APPLICATION 68u

static const char *trouble(const struct stat *st)
{
	if (st->st_mode & S_IWOTH)
		return "everybody may write there: chmod o-w";
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "it is another user's: chown it, or give another --state";
	return NULL;
}

int state_open(const char *path, int *ret_fd)
{
	_cleanup_(close_p) int fd = -1;
	const char *refused;
	struct stat st;
	int r;

	if (mkdir(path, 0750) < 0 && errno != EEXIST) {
		r = -errno;
		log_error("cannot make %s: %s", path, strerror(-r));
		return r;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		log_error("cannot open %s: %s", path, strerror(-r));
		return r;
	}
	refused = trouble(&st);
	if (refused) {
		log_error("the state directory %s is refused: %s", path, refused);
		return -EPERM;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static uint32_t number_at(const uint8_t *header, size_t at)
{
	uint32_t number;

	memcpy(&number, header + at, sizeof(number));
	return be32toh(number);
}

bool state_is_older(int fd)
{
	uint8_t header[HEADER_BYTES];
	_cleanup_(close_p) int file =
		openat(fd, SCHEMA_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return file >= 0 && pread(file, header, sizeof(header), 0) == (ssize_t)sizeof(header) &&
	       number_at(header, HEADER_APPLICATION) == SCHEMA_APPLICATION_ID &&
	       number_at(header, HEADER_VERSION) < SCHEMA_VERSION;
}
