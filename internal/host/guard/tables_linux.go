package guard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
)

// prefix is what the names of tables begin with; the number of the instance follows.
const prefix = "culvert-"

// Tables are the instances that have a guard in this network namespace, whether
// they run or not.
func Tables() (list []int, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNone, err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, unreadable(err)
	}
	for _, t := range tables {
		number, ours := strings.CutPrefix(strings.TrimSuffix(t.Name, standIn), prefix)
		n, err := strconv.Atoi(number)
		if ours && err == nil && n > 0 && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}
