// The helper is a credential_process: it prints what it was called with.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fail" {
		fmt.Fprintln(os.Stderr, "c4n4ry")
		fmt.Println("c4n4ry")
		os.Exit(3)
	}
	fmt.Printf(`{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"c4n4ry-secret/1=","SessionToken":%q}`,
		strings.Join(os.Args[1:], "|")+" "+os.Getenv("AWS_REGION")+os.Getenv("LD_PRELOAD"))
}
