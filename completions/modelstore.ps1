# PowerShell completion for modelstore
Register-ArgumentCompleter -Native -CommandName modelstore -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    if (-not $wordToComplete) { $words += '' }
    try {
        $Env:_MODELSTORE_COMPLETE = 'powershell'
        $Env:_MODELSTORE_LINE = $words -join "`n"
        & $commandAst.GetCommandName() 2>$null | Where-Object { $_ -ne 'none' } | ForEach-Object {
            $text, $name, $help = $_ -split "`t", 3
            [System.Management.Automation.CompletionResult]::new(
                $text, $name, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_MODELSTORE_COMPLETE, Env:_MODELSTORE_LINE
    }
}
